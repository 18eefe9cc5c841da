using System.Buffers.Binary;
using Tutti.Cpu;

namespace Tutti.Engines.Compare;

/// <summary>One call of <see cref="ICpuIo"/>.</summary>
/// <param name="Kind">In, out, read or write.</param>
/// <param name="Address">Port or physical address.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Value">What was read or written.</param>
internal readonly record struct IoCall(string Kind, ulong Address, int Size, ulong Value)
{
    public override string ToString() => $"{Kind} {Address:x} {Size} {Value:x}";
}

/// <summary>
/// The devices of a compared guest: they note every access and answer reads with values that depend only on the address, the size
/// and how many accesses came before. A write to <see cref="ExitPort"/> ends the run.
/// </summary>
internal sealed class IoLog : ICpuIo
{
    public const byte ExitPort = 0xF4;

    /// <summary>More than this is not kept: a guest that goes wrong may write for ever.</summary>
    private const int MaxCalls = 4096;

    private readonly List<IoCall> _calls = [];

    public IReadOnlyList<IoCall> Calls => _calls;

    /// <summary>Called for a write to <see cref="ExitPort"/>.</summary>
    public Action? OnExit { get; set; }

    public void Clear() => _calls.Clear();

    public void ReadPort(ushort port, Span<byte> data) => Answer("in", port, data);

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        if (port == ExitPort)
        {
            OnExit?.Invoke();
            return;
        }

        Add("out", port, data);
    }

    public void ReadMmio(ulong address, Span<byte> data) => Answer("read", address, data);

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data) => Add("write", address, data);

    private void Answer(string kind, ulong address, Span<byte> data)
    {
        ulong value = (address + 1 + (ulong)_calls.Count) * 0x9E37_79B9_7F4A_7C15;
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = (byte)(value >> (8 * (i & 7)));
        }

        Add(kind, address, data);
    }

    private void Add(string kind, ulong address, ReadOnlySpan<byte> data)
    {
        if (_calls.Count < MaxCalls)
        {
            Span<byte> bytes = stackalloc byte[8];
            data[..Math.Min(data.Length, 8)].CopyTo(bytes);
            _calls.Add(new IoCall(kind, address, data.Length, BinaryPrimitives.ReadUInt64LittleEndian(bytes)));
        }
    }
}
