using Tutti.Cpu;
using Tutti.Engines.Compare.Guests;
using Tutti.Memory;
using Tutti.X86;

namespace Tutti.Engines.Compare.Streams;

/// <summary>
/// Tables, page tables and pages in which the streams of a mode run: data and stack between pages that are absent, a page that
/// cannot be written, and stubs that end a run for each exception.
/// </summary>
internal sealed class StreamArena
{
    public const ulong RamSize = 4 << 20;
    public const int PageSize = 4096;

    /// <summary>Length of the data area and of the stack, in bytes.</summary>
    public const int AreaSize = 2 * PageSize;

    /// <summary>Stacks for exceptions end here in 64-bit modes; not compared but for the frame.</summary>
    public const ulong ExceptionStack = GuestBuilder.IstStack;

    /// <summary>Base of FS, so that an override shows.</summary>
    public const ulong FsBase = 0x1230;

    private const ulong PagedBase = 0x2000_0000;
    private const ulong Physical = 0x20_0000;
    private const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
    private const ushort RealCode = 0x1000;
    private const ushort RealData = 0x3000;
    private const ushort RealStack = 0x5000;

    public StreamArena(StreamMode mode)
    {
        Mode = mode;
        bool isReal = mode == StreamMode.Real;
        Code = isReal ? 0x100 : PagedBase + 0x1000;
        Data = isReal ? 0x1000 : PagedBase + 0x2_1000;
        ReadOnly = isReal ? 0x4000 : PagedBase + 0x2_4000;
        Counter = isReal ? 0x8000 : PagedBase + 0x2_7000;
        Stack = isReal ? 0x4000 : PagedBase + 0x3_1000;
        Writable = isReal
            ? [(((ulong)RealData << 4), 0x2_0000), ((ulong)RealStack << 4, 0x1_0000)]
            : [(Physical + 0x2_1000, AreaSize), (Physical + 0x2_4000, PageSize), (Physical + 0x3_1000, AreaSize)];
    }

    public StreamMode Mode { get; }

    public int Bits => Mode switch { StreamMode.Real => 16, StreamMode.Protected => 32, _ => 64 };

    /// <summary>Offset in CS of two pages of code.</summary>
    public ulong Code { get; }

    /// <summary>Offset in DS of the data area.</summary>
    public ulong Data { get; }

    /// <summary>Offset in DS of a page that cannot be written; in real mode it can.</summary>
    public ulong ReadOnly { get; }

    /// <summary>Offset in DS of the loop counter, 4 bytes that nothing else reaches.</summary>
    public ulong Counter { get; }

    /// <summary>Offset in SS of the stack area.</summary>
    public ulong Stack { get; }

    /// <summary>Physical ranges that are set before and compared after a run.</summary>
    public (ulong Address, int Length)[] Writable { get; }

    /// <summary>Physical address of the loop counter.</summary>
    public ulong CounterPhysical => Mode == StreamMode.Real ? ((ulong)RealData << 4) + Counter : ToPhysical(Counter);

    /// <summary>Physical address of an offset in CS.</summary>
    public ulong CodePhysical(ulong offset) => Mode == StreamMode.Real ? ((ulong)RealCode << 4) + offset : ToPhysical(offset);

    /// <summary>Physical address of an offset in SS, for frames.</summary>
    public ulong StackPhysical(ulong offset) => Mode == StreamMode.Real ? ((ulong)RealStack << 4) + offset
        : offset >= PagedBase ? ToPhysical(offset) : offset;

    private static ulong ToPhysical(ulong linear) => linear - PagedBase + Physical;

    /// <summary>Puts the tables into RAM and gives the registers that all streams of the mode begin with.</summary>
    public ProcessorRegisters Prepare(GuestMemory memory)
    {
        var builder = new GuestBuilder(memory, Mode switch
        {
            StreamMode.Real => GuestMode.Real,
            StreamMode.Protected => GuestMode.Protected,
            StreamMode.Ring0 => GuestMode.Long,
            _ => GuestMode.User,
        });
        ProcessorRegisters r = builder.Registers;
        r.Rip = Code;
        switch (Mode)
        {
            case StreamMode.Real:
                PrepareReal(r);
                break;
            case StreamMode.Protected:
                PrepareLegacy(builder);
                break;
            default:
                PrepareLong(builder);
                break;
        }

        return r;
    }

    private static void PrepareReal(ProcessorRegisters r)
    {
        ushort[] selectors = [RealData + 0x10, RealCode, RealStack, RealData, RealData + 0x23, RealData];
        for (int i = 0; i < 6; i++)
        {
            r.Segments[i] = new SegmentRegister(selectors[i], (ulong)selectors[i] << 4, 0xFFFF, (ushort)(i == 1 ? 0x9B : 0x93));
        }
    }

    private void PrepareLegacy(GuestBuilder builder)
    {
        const ulong Directory = GuestBuilder.PageTables;
        builder.Write32(Directory, (uint)((Directory + 0x1000) | Rights));
        builder.Write32(Directory + (4 * (PagedBase >> 22)), (uint)((Directory + 0x2000) | Rights));
        for (uint page = 0; page < 512; page++)
        {
            builder.Write32(Directory + 0x1000 + (page * 4), (page << 12) | (uint)Rights);
        }

        foreach ((ulong linear, ulong rights) in Pages())
        {
            builder.Write32(Directory + 0x2000 + (4 * ((linear >> 12) & 1023)), (uint)(ToPhysical(linear) | rights));
        }

        ProcessorRegisters r = builder.Registers;
        r.Cr3 = Directory;
        r.Cr0 |= Cr0.Paging | Cr0.WriteProtect;
        const ushort FsSelector = GuestBuilder.FreeSelector;
        builder.SetDescriptor(FsSelector, GuestBuilder.Segment(0xFFFFF, 0x93, 0xC, (uint)FsBase));
        r.Segments[4] = new SegmentRegister(FsSelector, FsBase, uint.MaxValue, 0xC093);
    }

    private void PrepareLong(GuestBuilder builder)
    {
        const ulong Tables = GuestBuilder.PageTables;
        builder.Write64(Tables + 0x2000 + (8 * (PagedBase >> 21)), (Tables + 0x5000) | Rights);
        foreach ((ulong linear, ulong rights) in Pages())
        {
            bool isCode = linear >= Code && linear < Code + AreaSize;
            builder.Write64(Tables + 0x5000 + (8 * ((linear >> 12) & 511)), ToPhysical(linear) | rights | (isCode ? 0 : PageTableEntry.NoExecute));
        }

        for (int vector = 0; vector < 256; vector++)
        {
            builder.SetGate(vector, ist: 1);
        }

        ProcessorRegisters r = builder.Registers;
        r.Segments[4] = r.Segments[4] with { Base = FsBase };
        if (Mode == StreamMode.Ring3)
        {
            // As operating systems run user code: null selectors, and a base for FS.
            r.Segments[0] = r.Segments[3] = r.Segments[5] = default;
            r.Segments[4] = new SegmentRegister(0, FsBase, 0, 0);
        }
    }

    /// <summary>The arena's pages with A and D set, so that no run changes the tables.</summary>
    private IEnumerable<(ulong Linear, ulong Rights)> Pages()
    {
        const ulong All = Rights | PageTableEntry.Accessed | PageTableEntry.Dirty;
        ulong[] pages = [Code, Code + PageSize, Data, Data + PageSize, Counter, Stack, Stack + PageSize];
        return pages.Select(page => (page, All)).Append((ReadOnly, All & ~PageTableEntry.Writable));
    }
}
