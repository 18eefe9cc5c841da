using System.Globalization;
using System.Text;
using Tutti.Cpu;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Machine;

/// <summary>A processor's state as text, for people who must find out why a guest died.</summary>
public static class RegisterDump
{
    private static readonly string[] GprNames =
    [
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15",
    ];

    private static readonly string[] SegmentNames = ["ES", "CS", "SS", "DS", "FS", "GS"];

    /// <summary>Formats the registers and, where its page is mapped, the code at RIP. Never throws for what a guest left there.</summary>
    public static string Format(int processor, ProcessorRegisters registers, GuestMemory memory)
    {
        StringBuilder text = new();
        SegmentRegister cs = registers.Segments[1];
        Line(text, $"vCPU {processor}: {DescribeMode(registers)}, {registers.Activity}");
        Line(text, $"CS:RIP {cs.Selector:x4}:{registers.Rip:x16}  RFLAGS {registers.Rflags:x8} [{DescribeFlags(registers.Rflags)}]");
        for (int row = 0; row < 16; row += 4)
        {
            for (int i = row; i < row + 4; i++)
            {
                text.Append(CultureInfo.InvariantCulture, $"{(i > row ? "  " : "")}{GprNames[i]} {registers.Gpr[i]:x16}");
            }

            text.Append('\n');
        }

        for (int i = 0; i < SegmentNames.Length; i++)
        {
            Segment(text, SegmentNames[i], registers.Segments[i]);
        }

        Segment(text, "TR", registers.Tr);
        Segment(text, "LDTR", registers.Ldtr);
        Line(text, $"GDT {registers.GdtBase:x16} limit {registers.GdtLimit:x4}  IDT {registers.IdtBase:x16} limit {registers.IdtLimit:x4}");
        Line(text, $"CR0 {registers.Cr0:x8}  CR2 {registers.Cr2:x16}  CR3 {registers.Cr3:x16}  CR4 {registers.Cr4:x8}  EFER {registers.Efer:x4}");
        text.Append("code at RIP:").Append(DescribeCode(registers, memory));
        return text.ToString();
    }

    private static void Segment(StringBuilder text, string name, SegmentRegister segment) =>
        Line(text, $"{name,-4} {segment.Selector:x4} base {segment.Base:x16} limit {segment.Limit:x8} attributes {segment.Attributes:x4}");

    private static void Line(StringBuilder text, FormattableString line) =>
        text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

    private static string DescribeMode(ProcessorRegisters registers)
    {
        ushort code = registers.Segments[1].Attributes;
        if ((registers.Cr0 & Cr0.ProtectionEnable) == 0)
        {
            return "real mode";
        }

        if ((registers.Efer & Efer.LongModeActive) != 0)
        {
            return (code & SegmentAttributes.Long) != 0 ? "64-bit mode" : "compatibility mode";
        }

        return (registers.Rflags & Rflags.Virtual8086) != 0 ? "virtual-8086 mode"
            : (code & SegmentAttributes.Big) != 0 ? "32-bit protected mode" : "16-bit protected mode";
    }

    private static string DescribeFlags(ulong flags)
    {
        ReadOnlySpan<(int Bit, char Letter)> letters =
        [
            (11, 'O'), (10, 'D'), (9, 'I'), (8, 'T'), (7, 'S'), (6, 'Z'), (4, 'A'), (2, 'P'), (0, 'C'),
        ];
        Span<char> text = stackalloc char[letters.Length];
        for (int i = 0; i < letters.Length; i++)
        {
            text[i] = (flags >> letters[i].Bit & 1) != 0 ? letters[i].Letter : '-';
        }

        return new string(text);
    }

    private static string DescribeCode(ProcessorRegisters registers, GuestMemory memory)
    {
        ulong linear = registers.Rip + registers.Segments[1].Base;
        if ((registers.Efer & Efer.LongModeActive) == 0)
        {
            linear &= uint.MaxValue;
        }

        if (!TryTranslate(registers, memory, linear, out ulong physical))
        {
            return " not mapped";
        }

        int length = (int)Math.Min(16, GuestMemoryLayout.PageSize - (physical & 0xFFF));
        Span<byte> bytes = stackalloc byte[length];
        if (!memory.TryRead(physical, bytes))
        {
            return string.Create(CultureInfo.InvariantCulture, $" no RAM at physical address {physical:x}");
        }

        StringBuilder text = new();
        foreach (byte value in bytes)
        {
            text.Append(CultureInfo.InvariantCulture, $" {value:x2}");
        }

        return text.ToString();
    }

    /// <summary>Walks the page tables without side effects. 32-bit and PAE paging are not walked.</summary>
    private static bool TryTranslate(ProcessorRegisters registers, GuestMemory memory, ulong linear, out ulong physical)
    {
        physical = linear;
        if ((registers.Cr0 & Cr0.Paging) == 0)
        {
            return true;
        }

        if ((registers.Efer & Efer.LongModeActive) == 0)
        {
            return false;
        }

        ulong table = registers.Cr3 & PageTableEntry.AddressMask;
        for (int shift = 39; shift >= 12; shift -= 9)
        {
            if (!memory.TryRead(table + ((linear >> shift & 0x1FF) * 8), out ulong entry) || (entry & 1) == 0)
            {
                return false;
            }

            bool isLeaf = shift == 12 || (shift <= 30 && (entry & PageTableEntry.PageSize) != 0);
            if (isLeaf)
            {
                ulong offsetMask = (1UL << shift) - 1;
                physical = (entry & PageTableEntry.AddressMask & ~offsetMask) | (linear & offsetMask);
                return true;
            }

            table = entry & PageTableEntry.AddressMask;
        }

        return false;
    }
}
