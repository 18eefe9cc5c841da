using System.Buffers.Binary;
using Iced.Intel;

namespace Tutti.Cpu.Software;

/// <summary>
/// Feeds a decoder from guest memory, which is read once, by aligned words of 8 bytes: another vCPU that stores such a word, or part of one,
/// changes an instruction as a whole, as on a processor. What was read can be looked at again.
/// </summary>
public sealed unsafe class CodeWords : CodeReader
{
    private const int WordSize = sizeof(ulong);

    private readonly byte[] _copy = new byte[4096 + WordSize];
    private ulong* _next;
    private int _start;
    private int _at;
    private int _end;
    private int _filled;

    /// <param name="code">The first byte. The aligned words that hold the first and the last one can be read whole.</param>
    /// <param name="length">Bytes to give, at most 4096.</param>
    public void Start(byte* code, int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)length, 4096u);
        _start = (int)((nint)code & (WordSize - 1));
        _next = (ulong*)(code - _start);
        _at = _start;
        _end = _start + length;
        _filled = 0;
    }

    public override int ReadByte()
    {
        if (_at == _end)
        {
            return -1;
        }

        while (_filled <= _at)
        {
            // SAFETY: a word that holds one of the bytes to give.
            BinaryPrimitives.WriteUInt64LittleEndian(_copy.AsSpan(_filled), Volatile.Read(ref *_next++));
            _filled += WordSize;
        }

        return _copy[_at++];
    }

    /// <summary>Bytes that have been read, from an offset behind the first one.</summary>
    public ReadOnlySpan<byte> Bytes(int offset, int length) => _copy.AsSpan(_start + offset, length);
}
