using Iced.Intel;

namespace Tutti.Cpu.Interpreter.Tests.Oracle.Sweep;

/// <summary>The encodings that are swept: every opcode of every map behind the prefixes that change what it is, with ModRM bytes of all kinds.</summary>
internal static class EncodingSpace
{
    /// <summary>Whether TUTTI_ORACLE_SWEEP asks for all ModRM bytes, address forms and prefixes instead of a choice.</summary>
    public static readonly bool IsFull = Environment.GetEnvironmentVariable("TUTTI_ORACLE_SWEEP") == "full";

    /// <remarks>No FS: in 64-bit mode it has the base of the thread that runs the test.</remarks>
    private static readonly byte[][] Prefixes =
    [
        [], [0x66], [0xF2], [0xF3], [0xF0], [0x66, 0xF2], [0x66, 0xF3], [0xF3, 0x66], [0xF2, 0xF3], [0xF3, 0xF2], [0xF0, 0x66], [0xF2, 0xF0], [0x65], [0x67], [0x2E],
    ];

    private static readonly byte[][] RexPrefixes =
    [
        [0x48], [0x66, 0x48], [0xF2, 0x48], [0xF3, 0x48], [0x40], [0x45], [0x48, 0x66], [0x48, 0xF3], [0xF3, 0x48, 0x40],
    ];

    private static readonly byte[][] MorePrefixes =
    [
        [0x26], [0x36], [0x3E], [0x66, 0x66], [0x67, 0x67], [0xF0, 0xF0], [0x65, 0x2E], [0x66, 0x67], [0x67, 0xF3], [0x66, 0xF2, 0xF3], [0x66, 0xF3, 0xF2],
        [0xF2, 0xF2], [0xF3, 0xF3], [0xF0, 0xF3], [0xF3, 0xF0],
    ];

    private static readonly byte[][] MoreRexPrefixes = [[0x41], [0x44], [0x4C], [0x4F], [0x66, 0x4F], [0xF2, 0x4F], [0xF3, 0x4F], [0x67, 0x48], [0xF0, 0x48], [0x40, 0x48], [0x48, 0x48]];

    /// <summary>Maps of legacy encodings, by what introduces their opcodes.</summary>
    public static readonly byte[][] Legacy = [[], [0x0F], [0x0F, 0x38], [0x0F, 0x3A]];

    /// <summary>Encodings of one legacy map.</summary>
    public static IEnumerable<byte[]> LegacyStems(byte[] map, int bits)
    {
        foreach (byte[] prefixes in PrefixesFor(bits))
        {
            for (int opcode = 0; opcode < 256; opcode++)
            {
                bool escapes = map.Length == 0 ? opcode == 0x0F || IsVectorEscape(opcode, bits) : map.Length == 1 && opcode is 0x38 or 0x3A or 0x0F;
                if (escapes || (map.Length == 0 && IsPrefix(opcode, bits)))
                {
                    continue;
                }

                foreach (byte[] modRm in ModRms(map, opcode))
                {
                    yield return [.. prefixes, .. map, (byte)opcode, .. modRm];
                }
            }
        }
    }

    /// <summary>3DNow!: the opcode follows ModRM and displacement.</summary>
    public static IEnumerable<byte[]> SuffixStems()
    {
        for (int suffix = 0; suffix < 256; suffix++)
        {
            yield return [0x0F, 0x0F, 0xC1, (byte)suffix];
            yield return [0x0F, 0x0F, 0x03, (byte)suffix];
        }
    }

    /// <summary>Encodings with the prefixes C5 and C4.</summary>
    public static IEnumerable<byte[]> VexStems(int bits)
    {
        foreach (byte[] prefixes in (byte[][])(bits == 64 ? [[], [0x66], [0xF3], [0xF0], [0x65], [0x67], [0x48]] : [[], [0x66], [0xF3], [0xF0], [0x65]]))
        {
            foreach (int second in VexBytes(prefixes.Length == 0))
            {
                for (int opcode = 0; opcode < 256; opcode++)
                {
                    foreach (byte[] modRm in VexModRms(opcode))
                    {
                        if (prefixes.Length == 0)
                        {
                            yield return [0xC5, (byte)(0x80 | second), (byte)opcode, .. modRm];
                        }

                        for (int map = 1; map <= 3; map++)
                        {
                            yield return [.. prefixes, 0xC4, (byte)(0xE0 | map), (byte)second, (byte)opcode, .. modRm];
                            yield return [.. prefixes, 0xC4, (byte)(0xE0 | map), (byte)(0x80 | second), (byte)opcode, .. modRm];
                        }
                    }
                }
            }
        }

        for (int map = 0; map < 32; map++)
        {
            for (int opcode = 0; opcode < 256 && map is 0 or > 3; opcode++)
            {
                yield return [0xC4, (byte)(0xE0 | map), 0x79, (byte)opcode, 0xCA];
            }
        }
    }

    /// <summary>Encodings with the prefix 62.</summary>
    public static IEnumerable<byte[]> EvexStems()
    {
        for (int map = 0; map < 8; map++)
        {
            for (int prefix = 0; prefix < 8; prefix++)
            {
                for (int opcode = 0; opcode < 256; opcode++)
                {
                    byte second = (byte)(((prefix & 4) << 5) | 0x7C | (prefix & 3));
                    yield return [0x62, (byte)(0xF0 | map), second, 0x08, (byte)opcode, 0xCA];
                    yield return [0x62, (byte)(0xF0 | map), second, 0x48, (byte)opcode, 0x0B];
                }
            }
        }
    }

    /// <summary>Encodings of AMD's XOP.</summary>
    public static IEnumerable<byte[]> XopStems()
    {
        for (int map = 8; map < 32; map++)
        {
            for (int opcode = 0; opcode < 256; opcode++)
            {
                yield return [0x8F, (byte)(0xE0 | map), 0x78, (byte)opcode, 0xCA];
                yield return [0x8F, (byte)(0xE0 | map), 0xF8, (byte)opcode, 0x0B];
            }
        }
    }

    /// <summary>One encoding, with the operand that RBX points to, of each instruction behind each of the prefixes that change what it is.</summary>
    public static IEnumerable<SweptEncoding> WithMemory(int bits)
    {
        HashSet<(Code, byte, bool, bool)> seen = [];
        foreach (byte[] stem in Legacy.SelectMany(map => LegacyStems(map, bits)).Concat(VexStems(bits)))
        {
            SweptEncoding encoding = SweptEncoding.Of(stem, bits);
            bool isPlain = !encoding.Instruction.IsInvalid && encoding.Instruction.MemoryBase is Register.RBX or Register.EBX
                && encoding.Instruction.MemoryIndex == Register.None && encoding.Instruction.MemoryDisplacement64 == 0;
            if (isPlain && seen.Add((encoding.Instruction.Code, encoding.Repeat, encoding.OperandSize, encoding.HasLock)))
            {
                yield return encoding;
            }
        }
    }

    private static IEnumerable<byte[]> PrefixesFor(int bits)
    {
        IEnumerable<byte[]> all = bits == 64 ? [.. Prefixes, .. RexPrefixes] : Prefixes;
        return !IsFull ? all : bits == 64 ? [.. all, .. MorePrefixes, .. MoreRexPrefixes] : [.. all, .. MorePrefixes];
    }

    private static IEnumerable<int> VexBytes(bool all)
    {
        // vvvv, L and pp; the registers 15 (none) and 10.
        foreach (int vvvv in (int[])(all ? [0x78, 0x28] : [0x78]))
        {
            for (int low = 0; low < 8; low++)
            {
                yield return vvvv | low;
            }
        }
    }

    private static IEnumerable<byte[]> ModRms(byte[] map, int opcode)
    {
        for (int reg = 0; reg < 8; reg++)
        {
            if (!IsFull)
            {
                yield return [(byte)((reg << 3) | 3)];
                yield return [(byte)(0xC0 | (reg << 3) | 3)];
                continue;
            }

            foreach (int low in (int[])[0x00, 0x03, 0x05, 0x06, 0x43, 0x45, 0x83, 0x85])
            {
                yield return [(byte)(low | (reg << 3))];
            }

            yield return [(byte)((reg << 3) | 4), 0x23];
            yield return [(byte)((reg << 3) | 4), 0x25];
            yield return [(byte)((reg << 3) | 4), 0x4B];
            yield return [(byte)((reg << 3) | 0x44), 0x63];
            yield return [(byte)((reg << 3) | 0x84), 0xA6];
        }

        bool isWhole = (map.Length == 0 && opcode is >= 0xD8 and <= 0xDF) || (map.Length == 1 && opcode is 0x01 or 0xAE or 0xC7 or 0x1E or 0x00);
        for (int modRm = 0xC0; modRm < 0x100 && (isWhole || IsFull); modRm++)
        {
            yield return [(byte)modRm];
        }
    }

    private static IEnumerable<byte[]> VexModRms(int opcode)
    {
        bool isGroup = opcode is (>= 0x71 and <= 0x73) or 0xAE or 0xF3;
        for (int reg = isGroup ? 0 : 1; reg < (isGroup ? 8 : 2); reg++)
        {
            yield return [(byte)((reg << 3) | 3)];
            yield return [(byte)(0xC2 | (reg << 3))];
            if (!isGroup)
            {
                yield return [(byte)((reg << 3) | 4), 0x23];
            }
        }
    }

    private static bool IsVectorEscape(int opcode, int bits) => opcode is 0xC4 or 0xC5 or 0x62 && bits == 64;

    private static bool IsPrefix(int opcode, int bits) => opcode is 0x66 or 0x67 or 0xF0 or 0xF2 or 0xF3 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65
        || (bits == 64 && (opcode & 0xF0) == 0x40);
}
