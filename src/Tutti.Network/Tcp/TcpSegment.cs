using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Tutti.Network.Tcp;

/// <summary>The header of a segment, parsed once. Sources: RFC 9293, 3.1 and 3.2; RFC 7323, 2 (window scale); RFC 2018 (SACK).</summary>
internal struct TcpSegment
{
    internal const int MinHeaderLength = 20;
    internal const int MaxHeaderLength = 60;
    private const byte EndOfOptions = 0;
    private const byte NoOperation = 1;
    private const byte MaximumSegmentSize = 2;
    private const byte WindowScaleKind = 3;
    private const byte SackPermitted = 4;
    private const byte Sack = 5;
    private const int MaxWindowScale = 14;

    internal ushort SourcePort;
    internal ushort DestinationPort;
    internal uint Sequence;
    internal uint Acknowledgment;
    internal TcpFlags Flags;
    internal ushort Window;
    internal int HeaderLength;

    /// <summary>0 where the segment has no such option.</summary>
    internal ushort Mss;

    /// <summary>-1 where the segment has no such option.</summary>
    internal int WindowScale;

    internal bool PermitsSack;
    internal int SackCount;
    internal SackEdges SackBlocks;

    /// <summary>Reads a header; false where it is none. Options that make no sense end the options.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> data, out TcpSegment segment)
    {
        segment = default;
        if (data.Length < MinHeaderLength)
        {
            return false;
        }

        segment.HeaderLength = (data[12] >> 4) * 4;
        if (segment.HeaderLength < MinHeaderLength || segment.HeaderLength > data.Length)
        {
            return false;
        }

        segment.SourcePort = BinaryPrimitives.ReadUInt16BigEndian(data);
        segment.DestinationPort = BinaryPrimitives.ReadUInt16BigEndian(data[2..]);
        segment.Sequence = BinaryPrimitives.ReadUInt32BigEndian(data[4..]);
        segment.Acknowledgment = BinaryPrimitives.ReadUInt32BigEndian(data[8..]);
        segment.Flags = (TcpFlags)(data[13] & 0x3F);
        segment.Window = BinaryPrimitives.ReadUInt16BigEndian(data[14..]);
        segment.WindowScale = -1;
        if (segment.HeaderLength > MinHeaderLength)
        {
            segment.ParseOptions(data[MinHeaderLength..segment.HeaderLength]);
        }

        return true;
    }

    /// <summary>Writes a header without options, its checksum 0.</summary>
    internal static void Write(Span<byte> data, ushort source, ushort destination, uint sequence, uint acknowledgment, TcpFlags flags, ushort window, int headerLength)
    {
        BinaryPrimitives.WriteUInt16BigEndian(data, source);
        BinaryPrimitives.WriteUInt16BigEndian(data[2..], destination);
        BinaryPrimitives.WriteUInt32BigEndian(data[4..], sequence);
        BinaryPrimitives.WriteUInt32BigEndian(data[8..], acknowledgment);
        data[12] = (byte)(headerLength / 4 << 4);
        data[13] = (byte)flags;
        BinaryPrimitives.WriteUInt16BigEndian(data[14..], window);
        BinaryPrimitives.WriteUInt32BigEndian(data[16..], 0);
    }

    /// <summary>Writes a SYN's options; gives their length, a multiple of 4.</summary>
    /// <param name="windowScale">-1 for none.</param>
    internal static int WriteSynOptions(Span<byte> options, ushort mss, int windowScale, bool permitSack)
    {
        options[0] = MaximumSegmentSize;
        options[1] = 4;
        BinaryPrimitives.WriteUInt16BigEndian(options[2..], mss);
        int length = 4;
        if (permitSack)
        {
            options[length] = NoOperation;
            options[length + 1] = NoOperation;
            options[length + 2] = SackPermitted;
            options[length + 3] = 2;
            length += 4;
        }

        if (windowScale >= 0)
        {
            options[length] = NoOperation;
            options[length + 1] = WindowScaleKind;
            options[length + 2] = 3;
            options[length + 3] = (byte)windowScale;
            length += 4;
        }

        return length;
    }

    /// <summary>Writes a SACK option with these edges, left and right in turns; gives its length, a multiple of 4.</summary>
    internal static int WriteSack(Span<byte> options, ReadOnlySpan<uint> edges)
    {
        options[0] = NoOperation;
        options[1] = NoOperation;
        options[2] = Sack;
        options[3] = (byte)(2 + (edges.Length * 4));
        for (int i = 0; i < edges.Length; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(options[(4 + (i * 4))..], edges[i]);
        }

        return 4 + (edges.Length * 4);
    }

    private void ParseOptions(ReadOnlySpan<byte> options)
    {
        while (!options.IsEmpty && options[0] != EndOfOptions)
        {
            if (options[0] == NoOperation)
            {
                options = options[1..];
                continue;
            }

            if (options.Length < 2 || options[1] < 2 || options[1] > options.Length)
            {
                return;
            }

            ParseOption(options[0], options[2..options[1]]);
            options = options[options[1]..];
        }
    }

    private void ParseOption(byte kind, ReadOnlySpan<byte> body)
    {
        switch (kind)
        {
            case MaximumSegmentSize when body.Length == 2:
                Mss = BinaryPrimitives.ReadUInt16BigEndian(body);
                break;
            case WindowScaleKind when body.Length == 1:
                WindowScale = Math.Min((int)body[0], MaxWindowScale);
                break;
            case SackPermitted when body.IsEmpty:
                PermitsSack = true;
                break;
            case Sack when body.Length % 8 == 0:
                SackCount = Math.Min(body.Length / 8, 4);
                for (int i = 0; i < SackCount * 2; i++)
                {
                    SackBlocks[i] = BinaryPrimitives.ReadUInt32BigEndian(body[(i * 4)..]);
                }

                break;
        }
    }

    /// <summary>Left and right edges of up to four blocks.</summary>
    [InlineArray(8)]
    internal struct SackEdges
    {
        private uint _first;
    }
}
