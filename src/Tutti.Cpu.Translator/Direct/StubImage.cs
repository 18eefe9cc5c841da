using System.Buffers.Binary;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The program of a stub process, an ELF file of one page of code and some pages with a list of requests to the host's kernel. The code does nothing but
/// carry the list out. Sources: elf(5), <c>linux/filter.h</c>, <c>linux/seccomp.h</c>.
/// </summary>
internal static class StubImage
{
    /// <summary>Bytes of the file before the list: the ELF header, and the code.</summary>
    public const int CodeSize = 4096;

    public const int ListSize = 64 << 10;

    /// <summary>Bytes of a request: the call's number, and six arguments.</summary>
    public const int RequestSize = 56;

    /// <summary>Where in the list's pages what is needed at the start stands: the filter, and a signal mask of zeros.</summary>
    private const int FilterOffset = 0xF000;

    private const int SignalMaskOffset = 0xFF00;

    /// <summary>Requests that a list may have, and one that ends it.</summary>
    public const int MaxRequests = (FilterOffset / RequestSize) - 1;

    /// <summary>The addresses that are the stub's alone: a whole last-level table's.</summary>
    public const ulong ReservedSize = 2 << 20;

    /// <summary>Of user code on the host: the last page is nobody's.</summary>
    public const ulong AddressEnd = (1UL << 47) - 4096;

    private const int CodeOffset = 0x200;
    private const int RunOffset = CodeOffset + 2;

    public const long CallMmap = 9;
    public const long CallMprotect = 10;
    public const long CallMunmap = 11;
    private const long CallSigprocmask = 14;
    private const long CallPrctl = 157;
    private const long CallPrlimit = 302;
    private const long CallSeccomp = 317;
    private const long CallCloseRange = 436;

    private const ushort LoadWord = 0x20;
    private const ushort JumpIfEqual = 0x15;
    private const ushort And = 0x54;
    private const ushort Return = 0x06;
    private const uint Allow = 0x7FFF_0000;
    private const uint Trap = 0x0003_0000;
    private const uint ArchX8664 = 0xC000_003E;

    private static ReadOnlySpan<byte> Code =>
    [
        0xEB, 0xFE,                               // JMP to itself, until it is stopped
        0x48, 0x8B, 0x03,                         // next: MOV RAX, [RBX]
        0x48, 0x85, 0xC0,                         // TEST RAX, RAX
        0x78, 0x28,                               // JS done: a negative number ends the list
        0x48, 0x8B, 0x7B, 8,                      // MOV RDI, [RBX+8]
        0x48, 0x8B, 0x73, 16,                     // MOV RSI, [RBX+16]
        0x48, 0x8B, 0x53, 24,                     // MOV RDX, [RBX+24]
        0x4C, 0x8B, 0x53, 32,                     // MOV R10, [RBX+32]
        0x4C, 0x8B, 0x43, 40,                     // MOV R8, [RBX+40]
        0x4C, 0x8B, 0x4B, 48,                     // MOV R9, [RBX+48]
        0x0F, 0x05,                               // SYSCALL
        0x48, 0x3D, 0x01, 0xF0, 0xFF, 0xFF,       // CMP RAX, -4095
        0x73, 6,                                  // JAE done: the kernel has refused
        0x48, 0x83, 0xC3, RequestSize,            // ADD RBX, RequestSize
        0xEB, 0xD0,                               // JMP next
        0xCC,                                     // done: INT3; RBX says how far it has come
    ];

    /// <summary>Where the code that carries the list out begins.</summary>
    public static ulong RunAddress(ulong address) => address + RunOffset;

    public static ulong ListAddress(ulong address) => address + CodeSize;

    /// <summary>Writes the file.</summary>
    /// <param name="file">Zeros.</param>
    /// <param name="address">Where it is to lie, a multiple of <see cref="ReservedSize"/>.</param>
    public static void Write(Span<byte> file, ulong address)
    {
        ReadOnlySpan<byte> identification = [0x7F, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identification.CopyTo(file);
        BinaryPrimitives.WriteUInt16LittleEndian(file[16..], 2); // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(file[18..], 62); // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(file[20..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(file[24..], address + CodeOffset);
        BinaryPrimitives.WriteUInt64LittleEndian(file[32..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(file[52..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(file[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(file[56..], 3);
        WriteSegment(file[64..], 1, 5, 0, address, CodeSize); // PT_LOAD, read and execute
        WriteSegment(file[120..], 1, 4, CodeSize, ListAddress(address), ListSize); // PT_LOAD, read
        WriteSegment(file[176..], 0x6474_E551, 6, 0, 0, 0); // PT_GNU_STACK: data is not executable
        Code.CopyTo(file[CodeOffset..]);
        WriteFilter(file.Slice(CodeSize + FilterOffset, 0x200), ListAddress(address) + FilterOffset, address);
    }

    /// <summary>What a stub does before anything of the guest's is shown to it, in this order.</summary>
    public static IEnumerable<long[]> Preparation(ulong address)
    {
        long list = (long)ListAddress(address);
        long end = list + ListSize;
        return
        [
            [CallPrctl, 1, 9], // PR_SET_PDEATHSIG, SIGKILL: it ends with the thread that has started it
            [CallSigprocmask, 2, list + SignalMaskOffset, 0, 8], // SIG_SETMASK: no signal is blocked
            [CallCloseRange, 0, 2, 0],
            [CallCloseRange, 4, 0xFFFF_FFFF, 0],
            [CallPrlimit, 0, 4, list + SignalMaskOffset], // RLIMIT_CORE
            [CallPrlimit, 0, 6, list + SignalMaskOffset], // RLIMIT_NPROC
            [CallMunmap, 0, (long)address],
            [CallMunmap, end, (long)AddressEnd - end],
            [CallPrctl, 26, 2], // PR_SET_TSC, PR_TSC_SIGSEGV: RDTSC faults
            [CallPrctl, 38, 1], // PR_SET_NO_NEW_PRIVS
            [CallSeccomp, 1, 0, list + FilterOffset], // SECCOMP_SET_MODE_FILTER
        ];
    }

    private static void WriteSegment(Span<byte> header, uint type, uint flags, ulong offset, ulong address, ulong size)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], flags);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], offset);
        BinaryPrimitives.WriteUInt64LittleEndian(header[16..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], size);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], size);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], 4096);
    }

    /// <summary>
    /// The seccomp filter: mmap, munmap and mprotect from the stub's own page of code. Everything else is not done, and a SIGSYS, which comes for the page of
    /// old system calls (vsyscall) too, that the host's kernel does not stop at by itself.
    /// </summary>
    private static void WriteFilter(Span<byte> area, ulong place, ulong address)
    {
        // Of struct seccomp_data: number 0, architecture 4, instruction pointer 8.
        (ushort Code, byte True, byte False, uint Value)[] filter =
        [
            (LoadWord, 0, 0, 4),
            (JumpIfEqual, 0, 10, ArchX8664),
            (LoadWord, 0, 0, 12),
            (JumpIfEqual, 0, 8, (uint)(address >> 32)),
            (LoadWord, 0, 0, 8),
            (And, 0, 0, 0xFFFF_F000),
            (JumpIfEqual, 0, 5, (uint)address),
            (LoadWord, 0, 0, 0),
            (JumpIfEqual, 2, 0, (uint)CallMmap),
            (JumpIfEqual, 1, 0, (uint)CallMunmap),
            (JumpIfEqual, 0, 1, (uint)CallMprotect),
            (Return, 0, 0, Allow),
            (Return, 0, 0, Trap),
        ];

        // struct sock_fprog, and the instructions behind it.
        BinaryPrimitives.WriteUInt16LittleEndian(area, (ushort)filter.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(area[8..], place + 16);
        Span<byte> at = area[16..];
        foreach ((ushort code, byte jumpTrue, byte jumpFalse, uint value) in filter)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(at, code);
            at[2] = jumpTrue;
            at[3] = jumpFalse;
            BinaryPrimitives.WriteUInt32LittleEndian(at[4..], value);
            at = at[8..];
        }
    }
}
