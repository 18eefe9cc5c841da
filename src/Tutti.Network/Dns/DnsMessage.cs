using System.Buffers.Binary;
using System.Text;

namespace Tutti.Network.Dns;

/// <summary>What is looked at of the guest's queries and of their answers (RFC 1035, 4.1; RFC 9619). Everything else passes as it is.</summary>
internal static class DnsMessage
{
    public const int Header = 12;

    /// <summary>The longest query that is passed on, in bytes; real ones have a name of 255 bytes and an option or two.</summary>
    public const int MaxQuery = 1232;

    public const int ServerFailure = 2;
    public const int NotImplemented = 4;
    public const int Refused = 5;

    private const int MaxName = 255;
    private const ushort IncrementalTransfer = 251;
    private const ushort Transfer = 252;

    /// <summary>Whether it is a query with one question, which may be passed on.</summary>
    public static bool IsQuery(ReadOnlySpan<byte> message) =>
        message.Length is >= Header + 5 and <= MaxQuery && (message[2] & 0xF8) == 0 && BinaryPrimitives.ReadUInt16BigEndian(message[4..]) == 1 && QuestionEnd(message) > 0;

    /// <summary>Whether a query asks for a whole zone, whose answer would be any number of messages.</summary>
    public static bool IsTransfer(ReadOnlySpan<byte> query) =>
        BinaryPrimitives.ReadUInt16BigEndian(query[(QuestionEnd(query) - 4)..]) is Transfer or IncrementalTransfer;

    /// <summary>Where the question's section ends; -1 when it does not, or its name is compressed.</summary>
    public static int QuestionEnd(ReadOnlySpan<byte> message)
    {
        int at = Header;
        while (at < message.Length && message[at] != 0)
        {
            if (message[at] > 63)
            {
                return -1;
            }

            at += message[at] + 1;
        }

        return at + 5 <= message.Length && at - Header < MaxName ? at + 5 : -1;
    }

    /// <summary>Whether a message answers a query that was sent with this identification.</summary>
    public static bool IsAnswer(ReadOnlySpan<byte> answer, ReadOnlySpan<byte> query, ushort identification)
    {
        if (answer.Length < Header || (answer[2] & 0x80) == 0 || BinaryPrimitives.ReadUInt16BigEndian(answer) != identification)
        {
            return false;
        }

        // A refusal may come without the question.
        int end = QuestionEnd(query);
        return answer.Length >= end ? IsSameQuestion(answer[Header..end], query[Header..end]) : answer.Length == Header && Code(answer) != 0;
    }

    /// <summary>
    /// Whether another server is to be asked, by the rules of the C library: a server that fails, that refuses, or that sends somewhere else without knowing anything.
    /// </summary>
    public static bool IsTurnedDown(ReadOnlySpan<byte> answer)
    {
        bool isAuthority = (answer[2] & 4) != 0;
        bool recurses = (answer[3] & 0x80) != 0;
        return Code(answer) switch
        {
            ServerFailure or NotImplemented or Refused => true,
            0 => !isAuthority && !recurses && answer[6..8].IndexOfAnyExcept((byte)0) < 0 && answer[10..12].IndexOfAnyExcept((byte)0) < 0,
            _ => false,
        };
    }

    /// <summary>Answers a query without any server; gives the length.</summary>
    /// <param name="query">The query.</param>
    /// <param name="code">Why.</param>
    /// <param name="into">At least as long as the query.</param>
    public static int WriteFailure(ReadOnlySpan<byte> query, int code, Span<byte> into)
    {
        int end = QuestionEnd(query);
        query[..end].CopyTo(into);
        into[2] = (byte)(0x80 | (query[2] & 1));

        // With recursion available.
        into[3] = (byte)(0x80 | code);
        into[6..Header].Clear();
        return end;
    }

    private static int Code(ReadOnlySpan<byte> answer) => answer[3] & 15;

    /// <summary>Names are alike in either case; type and class are bytes.</summary>
    private static bool IsSameQuestion(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right) =>
        Ascii.EqualsIgnoreCase(left[..^4], right[..^4]) ? left[^4..].SequenceEqual(right[^4..]) : left.SequenceEqual(right);
}
