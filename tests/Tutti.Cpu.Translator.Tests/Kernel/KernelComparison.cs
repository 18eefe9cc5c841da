using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Tutti.X86;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>Tells in what two machines differ that have run the same program: every register and all of RAM, the log of events in it.</summary>
internal static class KernelComparison
{
    private const int MaxDifferences = 12;
    private const int FlagsInEntry = 24;

    private static readonly string[] Gprs =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    private static readonly string[] SegmentNames = ["es", "cs", "ss", "ds", "fs", "gs"];

    public static List<string> Compare(KernelMachine reference, KernelMachine tested)
    {
        List<string> found = [];
        CompareLogs(reference.Ram, tested.Ram, found);
        ProcessorRegisters a = reference.Registers;
        ProcessorRegisters b = tested.Registers;
        for (int i = 0; i < 16; i++)
        {
            Add(found, Gprs[i], a.Gpr[i], b.Gpr[i]);
        }

        // The exit port may be behind the last instruction or at it.
        Add(found, "rflags", a.Rflags, b.Rflags);
        for (int i = 0; i < 6; i++)
        {
            CompareSegment(found, SegmentNames[i], a.Segments[i], b.Segments[i]);
        }

        CompareSegment(found, "tr", a.Tr, b.Tr);
        CompareSegment(found, "ldtr", a.Ldtr, b.Ldtr);
        Add(found, "cr0", a.Cr0, b.Cr0);
        Add(found, "cr2", a.Cr2, b.Cr2);
        Add(found, "cr3", a.Cr3, b.Cr3);
        Add(found, "cr4", a.Cr4, b.Cr4);
        Add(found, "efer", a.Efer, b.Efer);
        Add(found, "xcr0", a.Xcr0, b.Xcr0);
        for (int i = 0; i < 8; i++)
        {
            Add(found, $"dr{i}", a.Dr[i], b.Dr[i]);
        }

        foreach ((uint number, ulong value) in a.Msrs)
        {
            Add(found, $"msr {number:x}", value, b.Msrs[number]);
        }

        CompareUnits(found, a, b);
        CompareRam(found, reference.Ram, tested.Ram);
        return found.Count > MaxDifferences ? [.. found.Take(MaxDifferences), $"and {found.Count - MaxDifferences} more"] : found;
    }

    /// <summary>The log of events of a machine.</summary>
    public static string Events(KernelMachine machine)
    {
        var text = new StringBuilder();
        for (int i = 0; i < Count(machine.Ram); i++)
        {
            text.Append("    ").AppendLine(Entry(machine.Ram, i));
        }

        return text.ToString();
    }

    private static void Add(List<string> found, string name, ulong a, ulong b)
    {
        if (a != b)
        {
            found.Add(string.Create(CultureInfo.InvariantCulture, $"{name}: {a:x}, translator {b:x}"));
        }
    }

    private static void CompareSegment(List<string> found, string name, SegmentRegister a, SegmentRegister b)
    {
        Add(found, name + ".selector", a.Selector, b.Selector);
        Add(found, name + ".base", a.Base, b.Base);
        Add(found, name + ".limit", a.Limit, b.Limit);
        Add(found, name + ".attributes", a.Attributes, b.Attributes);
    }

    /// <summary>
    /// All of the image but where the last x87 instruction and its operand lay, which the translator does not keep, and MXCSR_MASK, which is
    /// no state.
    /// </summary>
    private static void CompareUnits(List<string> found, ProcessorRegisters a, ProcessorRegisters b)
    {
        for (int i = 0; i < 416; i += 2)
        {
            if (i is < 6 or (>= 24 and < 28) or >= 32)
            {
                Add(found, $"fxsave+{i}", BinaryPrimitives.ReadUInt16LittleEndian(a.FxState.AsSpan(i)), BinaryPrimitives.ReadUInt16LittleEndian(b.FxState.AsSpan(i)));
            }
        }

        byte[] first = a.ExtendedState ?? [];
        byte[] second = b.ExtendedState ?? [];
        for (int i = (int)XsaveLayout.AvxOffset; i + 8 <= Math.Min(first.Length, second.Length); i += 8)
        {
            Add(found, $"xsave+{i}", BinaryPrimitives.ReadUInt64LittleEndian(first.AsSpan(i)), BinaryPrimitives.ReadUInt64LittleEndian(second.AsSpan(i)));
        }
    }

    private static void CompareRam(List<string> found, ReadOnlySpan<byte> a, ReadOnlySpan<byte> b)
    {
        for (int at = 0; at < a.Length; at += 8)
        {
            at += a[at..].CommonPrefixLength(b[at..]) & ~7;
            if (at >= a.Length)
            {
                return;
            }

            if (at is < (int)Hidden or >= (int)HiddenEnd)
            {
                Add(found, $"ram {at:x}", BinaryPrimitives.ReadUInt64LittleEndian(a[at..]), BinaryPrimitives.ReadUInt64LittleEndian(b[at..]));
            }
        }
    }

    public static int Count(ReadOnlySpan<byte> ram)
    {
        ulong next = BinaryPrimitives.ReadUInt64LittleEndian(ram[(int)Variables..]);
        return (int)Math.Min(MaxEvents, (next - Base - Log) / LogEntrySize);
    }

    /// <summary>
    /// Whether the first event that differs does so by AF alone. A kernel that has written over its own code runs anything, with instructions among it
    /// that leave AF undefined, and what comes after says nothing. (Where AF is defined, the oracle's tests compare it.)
    /// </summary>
    public static bool DiffersByUndefinedFlag(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b)
    {
        for (int i = 0; i < Math.Min(Count(a), Count(b)); i++)
        {
            ReadOnlySpan<byte> first = a.Slice((int)Log + (i * LogEntrySize), LogEntrySize);
            ReadOnlySpan<byte> second = b.Slice((int)Log + (i * LogEntrySize), LogEntrySize);
            if (!first.SequenceEqual(second))
            {
                ulong flags = BinaryPrimitives.ReadUInt64LittleEndian(first[FlagsInEntry..]) ^ BinaryPrimitives.ReadUInt64LittleEndian(second[FlagsInEntry..]);
                return flags == Rflags.Adjust && first[..FlagsInEntry].SequenceEqual(second[..FlagsInEntry])
                    && first[(FlagsInEntry + 8)..].SequenceEqual(second[(FlagsInEntry + 8)..]);
            }
        }

        return false;
    }

    private static void CompareLogs(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b, List<string> found)
    {
        int count = Math.Max(Count(a), Count(b));
        for (int i = 0; i < count; i++)
        {
            string first = i < Count(a) ? Entry(a, i) : "none";
            string second = i < Count(b) ? Entry(b, i) : "none";
            if (first != second)
            {
                found.Add($"event {i}:\n      {first}\n      {second} (translator)");
                return;
            }
        }
    }

    private static string Entry(ReadOnlySpan<byte> ram, int index)
    {
        ReadOnlySpan<byte> entry = ram.Slice((int)Log + (index * LogEntrySize), LogEntrySize);
        ulong[] w = new ulong[8];
        for (int i = 0; i < 8; i++)
        {
            w[i] = BinaryPrimitives.ReadUInt64LittleEndian(entry[(i * 8)..]);
        }

        return string.Create(CultureInfo.InvariantCulture,
            $"{(uint)w[0],3} error {w[0] >> 32:x} at {w[1]:x} cs {(uint)w[2]:x} ss {w[2] >> 32:x} flags {w[3]:x} rsp {w[4]:x} cr2 {w[5]:x} dr6 {w[6]:x} selectors {w[7]:x}");
    }
}
