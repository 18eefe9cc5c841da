using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>What a handler does when it has written its log entry.</summary>
internal enum Reaction : byte
{
    /// <summary>Goes on behind the instruction that has faulted; a fetch that has faulted ends the fragment.</summary>
    Skip,
    Return,

    /// <summary>#DB: clears DR6 and sets RF, and TF is cleared when its steps are used up.</summary>
    Debug,

    /// <summary>#NM: CLTS, and again.</summary>
    ClearTaskSwitched,
    ChangeFlags,

    /// <summary>Goes on in the kernel at <see cref="Continue"/>.</summary>
    Leave,
}

/// <summary>
/// The exception handlers of random kernel programs: each event is written to a log (vector, error code, frame, CR2, DR6, selectors), then the program
/// goes on somewhere. Interrupts are only counted.
/// </summary>
internal static class KernelHandlers
{
    public const int StubSize = 16;

    /// <summary>Physical address of SYSCALL's entry.</summary>
    public const ulong SyscallEntry = Handlers + 0x1800;

    private const ulong Common = Handlers + 0x1000;
    private const int Vector = 40;
    private const int Error = Vector + 8;
    private const int Rip = Vector + 16;
    private const int Cs = Vector + 24;
    private const int Flags = Vector + 32;
    private const int Rsp = Vector + 40;
    private const int Ss = Vector + 48;

    public static Reaction ReactionTo(int vector) => vector switch
    {
        ExceptionVector.Debug => Reaction.Debug,
        ExceptionVector.Breakpoint or ExceptionVector.Overflow => Reaction.Return,
        ExceptionVector.DeviceNotAvailable => Reaction.ClearTaskSwitched,
        ExceptionVector.DoubleFault or LeaveVector => Reaction.Leave,
        >= FirstFlagVector and < FirstFlagVector + FlagVectors => Reaction.ChangeFlags,
        >= FirstSoftwareVector => Reaction.Return,
        _ => Reaction.Skip,
    };

    /// <summary>Writes stubs, handlers and their tables into an image of RAM.</summary>
    public static void Write(byte[] ram, bool swapsGs)
    {
        for (int vector = 0; vector < 256; vector++)
        {
            ram[(int)(Reactions - Base) + vector] = (byte)ReactionTo(vector);
            Put(ram, Handlers + (ulong)(vector * StubSize), c => Stub(c, vector));
        }

        Put(ram, Common, WriteCommon);
        Put(ram, SyscallEntry, c => WriteSyscall(c, swapsGs));
    }

    private static void Put(byte[] ram, ulong physical, Action<Assembler> write)
    {
        var assembler = new Assembler(64);
        write(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), Base + physical);
        stream.ToArray().CopyTo(ram, (int)physical);
    }

    private static void Stub(Assembler c, int vector)
    {
        if (vector is ExceptionVector.Nmi or (>= FirstInterrupt and < FirstInterrupt + InterruptVectors))
        {
            c.inc(__qword_ptr[unchecked((long)InterruptCount)]);
            c.iretq();
            return;
        }

        if (!ExceptionVector.HasErrorCode(vector))
        {
            c.push(0);
        }

        c.push(vector);
        c.jmp(Base + Common);
    }

    private static void WriteCommon(Assembler c)
    {
        Label leave = c.CreateLabel();
        Label back = c.CreateLabel();
        Label exit = c.CreateLabel();
        Save(c);
        c.mov(rax, __qword_ptr[rsp + Vector]);
        c.mov(ebx, __dword_ptr[rsp + Error]);
        c.shl(rbx, 32);
        c.or(rax, rbx);
        c.mov(__qword_ptr[rsi], rax);
        CopyToLog(c, Rip, 8);
        CopyToLog(c, Flags, 24);
        CopyToLog(c, Rsp, 32);
        c.mov(eax, __dword_ptr[rsp + Cs]);
        c.mov(__dword_ptr[rsi + 16], eax);
        c.mov(eax, __dword_ptr[rsp + Ss]);
        c.mov(__dword_ptr[rsi + 20], eax);
        c.mov(rax, cr2);
        c.mov(__qword_ptr[rsi + 40], rax);
        c.mov(rax, dr6);
        c.mov(__qword_ptr[rsi + 48], rax);
        FinishEntry(c, exit);
        React(c, back, leave);

        c.Label(ref back);
        Restore(c);
        c.add(rsp, 16);
        c.iretq();

        c.Label(ref leave);
        c.mov(rax, __qword_ptr[unchecked((long)Continue)]);
        c.mov(__qword_ptr[rsp + Rip], rax);
        c.mov(__qword_ptr[rsp + Cs], KernelCodeSelector);
        c.and(__qword_ptr[rsp + Flags], (int)Rflags.Arithmetic);
        c.or(__qword_ptr[rsp + Flags], (int)(Rflags.AlwaysOne | Rflags.Interrupt));
        c.mov(__qword_ptr[rsp + Rsp], unchecked((int)KernelRsp));
        c.mov(__qword_ptr[rsp + Ss], KernelData);
        c.jmp(back);
        WriteExit(c, exit);
    }

    private static void Save(Assembler c)
    {
        c.push(rax);
        c.push(rbx);
        c.push(rcx);
        c.push(rdx);
        c.push(rsi);
        c.mov(rsi, __qword_ptr[unchecked((long)LogNext)]);
    }

    private static void Restore(Assembler c)
    {
        c.pop(rsi);
        c.pop(rdx);
        c.pop(rcx);
        c.pop(rbx);
        c.pop(rax);
    }

    private static void CopyToLog(Assembler c, int from, int to)
    {
        c.mov(rax, __qword_ptr[rsp + from]);
        c.mov(__qword_ptr[rsi + to], rax);
    }

    private static void FinishEntry(Assembler c, Label exit)
    {
        AssemblerRegisterSegment[] segments = [ds, es, fs, gs];
        for (int i = 0; i < 4; i++)
        {
            c.mov(__word_ptr[rsi + 56 + (2 * i)], segments[i]);
        }

        c.add(rsi, LogEntrySize);
        c.mov(__qword_ptr[unchecked((long)LogNext)], rsi);
        c.dec(__qword_ptr[unchecked((long)EventsLeft)]);
        c.jz(exit);
    }

    private static void React(Assembler c, Label back, Label leave)
    {
        Label skip = c.CreateLabel();
        Label debug = c.CreateLabel();
        Label device = c.CreateLabel();
        Label flags = c.CreateLabel();
        c.movzx(ecx, __byte_ptr[rsp + Vector]);
        c.movzx(edx, __byte_ptr[rcx + unchecked((int)Reactions)]);
        (Reaction Reaction, Label Target)[] others =
        [
            (Reaction.Return, back), (Reaction.Leave, leave), (Reaction.Debug, debug), (Reaction.ClearTaskSwitched, device), (Reaction.ChangeFlags, flags),
        ];
        foreach ((Reaction reaction, Label target) in others)
        {
            c.cmp(edx, (int)reaction);
            c.je(target);
        }

        c.cmp(ecx, ExceptionVector.PageFault);
        c.jne(skip);
        c.test(__dword_ptr[rsp + Error], 16);
        c.jne(leave);
        c.mov(rax, cr2);
        c.cmp(rax, __qword_ptr[rsp + Rip]);
        c.je(leave);

        c.Label(ref skip);
        WriteSkip(c, back, leave);

        c.Label(ref debug);
        c.mov(eax, unchecked((int)Dr6.AlwaysOne));
        c.mov(dr6, rax);
        c.or(__qword_ptr[rsp + Flags], (int)Rflags.Resume);
        c.dec(__qword_ptr[unchecked((long)StepsLeft)]);
        c.jg(back);
        c.and(__qword_ptr[rsp + Flags], ~(int)Rflags.Trap);
        c.jmp(back);

        c.Label(ref device);
        c.clts();
        c.jmp(back);

        c.Label(ref flags);
        c.mov(rax, __qword_ptr[(rcx * 8) + unchecked((int)FlagChanges)]);
        c.xor(__qword_ptr[rsp + Flags], rax);
        c.jmp(back);
    }

    /// <summary>Adds the length of the instruction to RIP; ends the fragment where there is none.</summary>
    private static void WriteSkip(Assembler c, Label back, Label leave)
    {
        (ulong Code, ulong Lengths)[] regions =
            [(KernelCode, KernelLengths), (KernelCodeAlias, KernelLengths), (UserCode, UserLengths)];
        foreach ((ulong code, ulong lengths) in regions)
        {
            Label other = c.CreateLabel();
            c.mov(rax, __qword_ptr[rsp + Rip]);
            c.mov(rbx, code);
            c.sub(rax, rbx);
            c.cmp(rax, CodeBytes);
            c.jae(other);
            c.movzx(eax, __byte_ptr[rax + unchecked((int)(Base + lengths))]);
            c.test(eax, eax);
            c.je(leave);
            c.add(__qword_ptr[rsp + Rip], rax);
            c.jmp(back);
            c.Label(ref other);
        }

        c.jmp(leave);
    }

    private static void WriteExit(Assembler c, Label exit)
    {
        c.Label(ref exit);
        c.@out(ExitPort, al);
        c.jmp(exit);
    }

    /// <summary>SYSCALL's entry goes on where <see cref="Continue"/> says, on the kernel's stack.</summary>
    private static void WriteSyscall(Assembler c, bool swapsGs)
    {
        Label exit = c.CreateLabel();
        if (swapsGs)
        {
            c.swapgs();
        }

        c.mov(__qword_ptr[unchecked((long)SavedRsp)], rsp);
        c.mov(rsp, unchecked((long)KernelRsp));
        Save(c);
        c.mov(__qword_ptr[rsi], (int)SyscallEvent);
        c.mov(__qword_ptr[rsi + 8], rcx);
        c.mov(ebx, cs);
        c.mov(__dword_ptr[rsi + 16], ebx);
        c.mov(ebx, ss);
        c.mov(__dword_ptr[rsi + 20], ebx);
        c.mov(__qword_ptr[rsi + 24], r11);
        c.mov(rax, __qword_ptr[unchecked((long)SavedRsp)]);
        c.mov(__qword_ptr[rsi + 32], rax);
        c.pushfq();
        c.pop(rax);

        // Interrupts may be on or off in what follows, but the log says what SYSCALL made of them.
        c.mov(__qword_ptr[rsi + 40], rax);
        c.mov(__qword_ptr[rsi + 48], 0);
        FinishEntry(c, exit);
        Restore(c);
        c.jmp(__qword_ptr[unchecked((long)Continue)]);
        WriteExit(c, exit);
    }
}
