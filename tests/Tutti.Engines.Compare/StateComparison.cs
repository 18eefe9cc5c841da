using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.Cpu;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Engines.Compare;

/// <summary>Tells in which fields two end states differ, leaving out what the manuals leave to the processor.</summary>
internal static class StateComparison
{
    /// <summary>More words of memory than this are not told one by one.</summary>
    private const int MaxWords = 16;

    private const int FxMxcsr = 24;
    private const int FxStack = 32;
    private const int FxXmm = 160;

    private static readonly string[] GprNames =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    private static readonly string[] SegmentNames = ["es", "cs", "ss", "ds", "fs", "gs"];

    /// <summary>Registers that guests of this program write.</summary>
    private static readonly (uint Number, string Name)[] Msrs =
    [
        (Msr.Star, "STAR"), (Msr.Lstar, "LSTAR"), (Msr.Cstar, "CSTAR"), (Msr.Sfmask, "SFMASK"), (Msr.KernelGsBase, "KERNEL_GS_BASE"),
        (Msr.SysenterCs, "SYSENTER_CS"), (Msr.SysenterEsp, "SYSENTER_ESP"), (Msr.SysenterEip, "SYSENTER_EIP"), (Msr.Pat, "PAT"),
    ];

    /// <param name="first">The first engine's end.</param>
    /// <param name="second">The second engine's end.</param>
    /// <param name="undefinedFlags">RFLAGS bits that the guest's instructions leave undefined.</param>
    /// <param name="found">Where differences go.</param>
    public static void Compare(EndState first, EndState second, ulong undefinedFlags, List<Difference> found)
    {
        if (first.Ending != second.Ending)
        {
            found.Add(new Difference("ending", Describe(first), Describe(second)));
        }

        CompareCalls(first.Calls, second.Calls, found);
        if (first.Ending == Ending.TripleFault && second.Ending == Ending.TripleFault)
        {
            // What a processor that has shut down holds is not defined; AMD's virtual machines lose it.
            return;
        }

        ProcessorRegisters a = first.Registers;
        ProcessorRegisters b = second.Registers;
        for (int i = 0; i < 16; i++)
        {
            Add(found, GprNames[i], a.Gpr[i], b.Gpr[i]);
        }

        Add(found, "rip", a.Rip, b.Rip);
        Add(found, "rflags", a.Rflags & Rflags.Defined & ~undefinedFlags, b.Rflags & Rflags.Defined & ~undefinedFlags);
        bool isLong = (a.Efer & b.Efer & Efer.LongModeActive) != 0;
        for (int i = 0; i < 6; i++)
        {
            CompareSegment(SegmentNames[i], a.Segments[i], b.Segments[i], isLong, found);
        }

        CompareSegment("tr", a.Tr, b.Tr, isLong, found);
        CompareSegment("ldtr", a.Ldtr, b.Ldtr, isLong, found);
        CompareSystem(a, b, found);
        CompareFx(a.FxState, b.FxState, found);
        foreach ((uint number, string name) in Msrs)
        {
            if (a.Msrs.TryGetValue(number, out ulong inFirst) && b.Msrs.TryGetValue(number, out ulong inSecond))
            {
                Add(found, name, inFirst, inSecond);
            }
        }
    }

    /// <summary>Compares a range of RAM, a multiple of 8 bytes in one region, in words of 8 bytes.</summary>
    public static void CompareMemory(GuestMemory first, GuestMemory second, ulong address, int length, List<Difference> found)
    {
        if (!first.TryGetSpan(address, length, out Span<byte> a) || !second.TryGetSpan(address, length, out Span<byte> b))
        {
            throw new ArgumentOutOfRangeException(nameof(address));
        }

        int words = 0;
        for (int at = a.CommonPrefixLength(b) & ~7; at < length && words < MaxWords; words++)
        {
            Add(found, $"memory {address + (ulong)at:x}", MemoryMarshal.Read<ulong>(a[at..]), MemoryMarshal.Read<ulong>(b[at..]));
            at += 8;
            at += a[at..].CommonPrefixLength(b[at..]) & ~7;
        }
    }

    private static string Describe(EndState end) => end.Message == null ? end.Ending.ToString() : $"{end.Ending}: {end.Message}";

    private static void Add(List<Difference> found, string field, ulong first, ulong second)
    {
        if (first != second)
        {
            found.Add(Difference.Of(field, first, second));
        }
    }

    private static void CompareCalls(List<IoCall> first, List<IoCall> second, List<Difference> found)
    {
        int common = Math.Min(first.Count, second.Count);
        for (int i = 0; i < common; i++)
        {
            if (first[i] != second[i])
            {
                found.Add(new Difference($"io {i}", first[i].ToString(), second[i].ToString()));
                return;
            }
        }

        if (first.Count != second.Count)
        {
            string next = first.Count > common ? first[common].ToString() : second[common].ToString();
            found.Add(new Difference("io", $"{first.Count} accesses", $"{second.Count} accesses, one has {next}"));
        }
    }

    private static void CompareSegment(string name, SegmentRegister a, SegmentRegister b, bool isLong, List<Difference> found)
    {
        Add(found, name + ".selector", a.Selector, b.Selector);
        bool isUsable = (a.Attributes & SegmentAttributes.Present) != 0;
        if (isUsable != ((b.Attributes & SegmentAttributes.Present) != 0))
        {
            Add(found, name + ".attributes", a.Attributes, b.Attributes);
            return;
        }

        if (isUsable)
        {
            // G is no state of its own once the limit is in bytes, and virtual machine formats make it up from the limit.
            const ushort Compared = unchecked((ushort)~SegmentAttributes.Granularity);
            Add(found, name + ".base", a.Base, b.Base);
            Add(found, name + ".limit", a.Limit, b.Limit);
            Add(found, name + ".attributes", a.Attributes & (ulong)Compared, b.Attributes & (ulong)Compared);
        }
        else if (isLong && name is "fs" or "gs")
        {
            // A null selector leaves limit and attributes undefined; these two bases are used all the same.
            Add(found, name + ".base", a.Base, b.Base);
        }
    }

    private static void CompareSystem(ProcessorRegisters a, ProcessorRegisters b, List<Difference> found)
    {
        Add(found, "gdtr.base", a.GdtBase, b.GdtBase);
        Add(found, "gdtr.limit", a.GdtLimit, b.GdtLimit);
        Add(found, "idtr.base", a.IdtBase, b.IdtBase);
        Add(found, "idtr.limit", a.IdtLimit, b.IdtLimit);
        Add(found, "cr0", a.Cr0, b.Cr0);
        Add(found, "cr2", a.Cr2, b.Cr2);
        Add(found, "cr3", a.Cr3, b.Cr3);
        Add(found, "cr4", a.Cr4, b.Cr4);
        Add(found, "cr8", a.Cr8, b.Cr8);
        Add(found, "efer", a.Efer, b.Efer);
        Add(found, "xcr0", a.Xcr0, b.Xcr0);
        foreach (int i in (ReadOnlySpan<int>)[0, 1, 2, 3, 6, 7])
        {
            Add(found, $"dr{i}", a.Dr[i], b.Dr[i]);
        }
    }

    /// <summary>All but the addresses and the opcode of the last x87 instruction, which processors keep at different times.</summary>
    private static void CompareFx(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b, List<Difference> found)
    {
        Add(found, "fcw", BinaryPrimitives.ReadUInt16LittleEndian(a), BinaryPrimitives.ReadUInt16LittleEndian(b));
        Add(found, "fsw", BinaryPrimitives.ReadUInt16LittleEndian(a[2..]), BinaryPrimitives.ReadUInt16LittleEndian(b[2..]));
        Add(found, "ftw", a[4], b[4]);
        Add(found, "mxcsr", BinaryPrimitives.ReadUInt32LittleEndian(a[FxMxcsr..]), BinaryPrimitives.ReadUInt32LittleEndian(b[FxMxcsr..]));
        for (int i = 0; i < 8; i++)
        {
            CompareBytes($"st{i}", a.Slice(FxStack + (16 * i), 10), b.Slice(FxStack + (16 * i), 10), found);
        }

        for (int i = 0; i < 16; i++)
        {
            CompareBytes($"xmm{i}", a.Slice(FxXmm + (16 * i), 16), b.Slice(FxXmm + (16 * i), 16), found);
        }
    }

    private static void CompareBytes(string field, ReadOnlySpan<byte> a, ReadOnlySpan<byte> b, List<Difference> found)
    {
        if (!a.SequenceEqual(b))
        {
            found.Add(new Difference(field, Text(a), Text(b)));
        }
    }

    private static string Text(ReadOnlySpan<byte> value)
    {
        byte[] bytes = value.ToArray();
        Array.Reverse(bytes);
        return Convert.ToHexString(bytes);
    }
}
