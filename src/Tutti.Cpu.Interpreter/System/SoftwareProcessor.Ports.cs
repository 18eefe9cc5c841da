using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Who may use which port.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    /// <summary>Offset of the I/O map base in a 32-bit or 64-bit TSS.</summary>
    private const uint IoMapBase = 102;

    /// <summary>Checks IOPL and the I/O permission bitmap, and notes port breakpoints; false after #GP(0).</summary>
    public bool TryPassPort(ushort port, int size)
    {
        if (IsProtected && (IsVirtual8086 || State->Cpl > Iopl) && !TryPassBitmap(port, size))
        {
            return false;
        }

        CheckPortBreakpoints(port, size);
        return true;
    }

    public void ReadPort(ushort port, Span<byte> data)
    {
        LeaveGuest();
        Io.ReadPort(port, data);
        ReenterGuest();
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        LeaveGuest();
        Io.WritePort(port, data);
        ReenterGuest();
    }

    private bool TryPassBitmap(ushort port, int size)
    {
        // A 16-bit TSS has no bitmap.
        bool hasMap = (State->Tr.Attributes & SegmentAttributes.TypeMask) is SystemDescriptorType.BusyTss or SystemDescriptorType.AvailableTss;
        if (!hasMap || State->Tr.Limit < IoMapBase + 1)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadTable(State->Tr.Base + IoMapBase, out ushort mapBase))
        {
            return false;
        }

        // Two bytes are read always, because a port's bits may straddle them.
        uint offset = (uint)mapBase + ((uint)port >> 3);
        if (offset + 1 > State->Tr.Limit)
        {
            return Refuse(ExceptionVector.GeneralProtection);
        }

        if (!TryReadTable(State->Tr.Base + offset, out ushort bits))
        {
            return false;
        }

        int mask = ((1 << size) - 1) << (port & 7);
        return (bits & mask) == 0 || Refuse(ExceptionVector.GeneralProtection);
    }
}
