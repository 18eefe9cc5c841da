namespace Tutti.Cpu;

/// <summary>
/// What a processor reaches outside RAM. An engine calls this from the thread of the vCPU, with data of 1, 2, 4 or 8
/// bytes (ports: 1, 2 or 4). Calls never throw for what a guest does: nobody's addresses read as all-ones and ignore writes.
/// </summary>
public interface ICpuIo
{
    void ReadPort(ushort port, Span<byte> data);

    void WritePort(ushort port, ReadOnlySpan<byte> data);

    void ReadMmio(ulong address, Span<byte> data);

    void WriteMmio(ulong address, ReadOnlySpan<byte> data);
}
