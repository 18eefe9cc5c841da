using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>What the first serial port leads to where the terminal is at another console: nothing, but the last that was written is kept.</summary>
internal sealed class UnseenSerialPort : IConsoleBackend
{
    private const int Kept = 64 << 10;
    private readonly byte[] _ring = new byte[Kept];
    private long _written;

    public int Read(Span<byte> buffer) => 0;

    public bool Write(ReadOnlySpan<byte> bytes)
    {
        lock (_ring)
        {
            foreach (byte value in bytes)
            {
                _ring[_written++ % Kept] = value;
            }
        }

        return true;
    }

    public void CancelRead()
    {
    }

    public void CancelWrite()
    {
    }

    /// <summary>The last of what the guest has written there, 64 KiB at most.</summary>
    internal byte[] ReadLast()
    {
        lock (_ring)
        {
            byte[] last = new byte[Math.Min(_written, Kept)];
            for (int i = 0; i < last.Length; i++)
            {
                last[i] = _ring[(_written - last.Length + i) % Kept];
            }

            return last;
        }
    }
}
