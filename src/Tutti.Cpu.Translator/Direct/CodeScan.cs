using Iced.Intel;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Looks for instructions that do not fault in user mode but tell or do something else than in the guest: those that answer for the host's processor or
/// the host's tables. Where their bytes stand inside other instructions, as decoded from some places before, they do not count.
/// </summary>
/// <param name="hasSameState">Whether XCR0 is the host's, so that XGETBV tells what it should.</param>
internal sealed unsafe class CodeScan(bool hasSameState)
{
    private const int PageSize = 4096;

    /// <summary>Bytes after which decoding from any place has come to the same instructions, as a rule.</summary>
    private const int Distance = 64;

    /// <summary>From so many places it is tried.</summary>
    private const int Tries = 8;

    /// <summary>As many of them that agree at first are believed; else more than half of all.</summary>
    private const int FirstTries = 2;

    /// <summary>So near to the page's start nobody knows, and it counts.</summary>
    private const int Unknown = 24;

    /// <summary>Pages scanned.</summary>
    public long Scanned { get; private set; }

    /// <summary>Finds where they begin in a page; gives how many there are, or -1 where that is more than there is room for, or not known.</summary>
    /// <param name="page">4,096 bytes.</param>
    public int Find(byte* page, Span<int> places)
    {
        // SAFETY: the caller's page; other threads may write to it, which makes the answer one for what stood there.
        var bytes = new ReadOnlySpan<byte>(page, PageSize);
        Scanned++;
        int count = 0;
        int at = 0;
        while (at < PageSize - 2)
        {
            int next = bytes[at..(PageSize - 2)].IndexOf((byte)0x0F);
            if (next < 0)
            {
                break;
            }

            at += next;
            if (IsSuspect(bytes[at + 1], bytes[at + 2]) && FindStart(page, at) is >= 0 and int start)
            {
                if (count == places.Length)
                {
                    return -1;
                }

                places[count++] = start;
            }

            at++;
        }

        return count;
    }

    private bool IsSuspect(byte second, byte third) => second switch
    {
        // LAR, LSL, SYSENTER, CPUID.
        0x02 or 0x03 or 0x34 or 0xA2 => true,

        // VMCALL, XGETBV, VMMCALL, SMSW, RDPKRU, WRPKRU; SGDT, SIDT, SMSW to memory.
        0x01 => third >= 0xC0 ? third is 0xC1 or 0xD9 or (>= 0xE0 and <= 0xE7) or 0xEE or 0xEF || (third == 0xD0 && !hasSameState)
            : ((third >> 3) & 7) is 0 or 1 or 4,

        // RDPID (and RDSEED).
        0xC7 => third >= 0xF8,
        _ => false,
    };

    /// <summary>Where an instruction begins that has such bytes; -1 where they are part of another.</summary>
    private static int FindStart(byte* page, int at)
    {
        if (at < Unknown)
        {
            return at;
        }

        int met = 0;
        int start = -1;
        for (int i = 0; i < Tries; i++)
        {
            if (Meets(page, Math.Max(at - Distance, 0) + i, at) is >= 0 and int found)
            {
                start = found;
                met++;
            }

            if (i == FirstTries - 1 && met == 0)
            {
                return -1;
            }
        }

        return met > Tries / 2 ? start : -1;
    }

    /// <summary>Where one of the instructions begins that decoding from one place meets at another; -1 for none.</summary>
    private static int Meets(byte* page, int from, int at)
    {
        Decoder decoder = Decoder.Create(64, new PageReader(page + from, PageSize - from));
        decoder.IP = (ulong)from;
        while (true)
        {
            decoder.Decode(out Instruction instruction);
            if (decoder.IP > (ulong)at || decoder.LastError == DecoderError.NoMoreBytes)
            {
                return IsForbidden(instruction.Mnemonic) ? (int)instruction.IP : -1;
            }
        }
    }

    private static bool IsForbidden(Mnemonic mnemonic) => mnemonic is Mnemonic.Cpuid or Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Sysenter
        or Mnemonic.Vmcall or Mnemonic.Vmmcall or Mnemonic.Xgetbv or Mnemonic.Smsw or Mnemonic.Sgdt
        or Mnemonic.Sidt or Mnemonic.Rdpkru or Mnemonic.Wrpkru or Mnemonic.Rdpid;

    private sealed class PageReader(byte* bytes, int length) : CodeReader
    {
        private int _at;

        // SAFETY: never beyond the length.
        public override int ReadByte() => _at < length ? bytes[_at++] : -1;
    }
}
