using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests.System;

/// <summary>IRETQ as host code: taken again and again where nothing is unusual, and left to the interpreter for everything else.</summary>
public sealed unsafe class InterruptReturnTests
{
    /// <summary>Two frames are ordinary: the interpreter takes the first, host code the second.</summary>
    private const int Ordinary = 6;

    private const ulong Frames = TestMachine.Data;
    private const ulong UserReturned = TestMachine.UserCode + 0x100;
    private const ushort Code = TestMachine.FreeSelector;
    private const ushort OtherCode = TestMachine.FreeSelector + 8;
    private const ulong Flags = Rflags.AlwaysOne;
    private const ulong NotCanonical = 0x8000_0000_0000;

    /// <summary>Where the IRETQ of <see cref="Make"/> stands.</summary>
    private const ulong Return = TestMachine.Code + 7;

    [Fact]
    public void Returns_of_the_supervisor_to_itself_need_the_interpreter_once()
    {
        using TestMachine machine = Make(toUser: false);
        Frame(machine, Ordinary, TestMachine.Stubs, Code, Flags | Rflags.Carry | Rflags.Sign | Rflags.Overflow | Rflags.Resume, 0x4_1230, TestMachine.KernelData);
        Assert.Equal(0, machine.RunToStub());
        Assert.Equal(Flags | Rflags.Carry | Rflags.Sign | Rflags.Overflow, machine.Registers.Rflags);
        Assert.Equal(0x4_1230UL, machine.Registers.Gpr[4]);
        Assert.Equal((Code, TestMachine.KernelData), (machine.Registers.Segments[1].Selector, machine.Registers.Segments[2].Selector));
        Assert.Equal(0, machine.Cpu.State->Cpl);
        Assert.Equal(1, Interpreted(machine));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(Rflags.Zero)]
    [InlineData(Rflags.Interrupt)]
    [InlineData(Rflags.Identification)]
    [InlineData(Rflags.Resume)]
    public void Returns_to_user_code_need_the_interpreter_once(ulong flags)
    {
        using TestMachine machine = Make(toUser: true);
        machine.SetGate(3, 0xEE);

        // A vCPU that has been given its registers asks its APIC once for what waits; then nothing does.
        Frame(machine, 0, UserReturned, TestMachine.UserCode64, Flags | Rflags.Interrupt, TestMachine.UserStack, TestMachine.UserData);
        Frame(machine, Ordinary, TestMachine.UserCode + 0x80, TestMachine.UserCode64, Flags | flags, 0x5_1230, TestMachine.UserData);
        machine.Assemble(TestMachine.UserCode + 0x80, 64, a => a.int3());
        Assert.Equal(3, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode64, machine.Frame(1));
        Assert.Equal(Flags | (flags & ~Rflags.Resume), machine.Frame(2));
        Assert.Equal(0x5_1230UL, machine.Frame(3));
        Assert.Equal(TestMachine.UserData, machine.Frame(4));
        Assert.Equal(1, Interpreted(machine));
    }

    [Fact]
    public void A_null_stack_of_the_supervisor_is_a_target_of_its_own()
    {
        using TestMachine machine = Make(toUser: false);
        for (int i = 1; i < Ordinary; i += 2)
        {
            Frame(machine, i, TestMachine.Code, Code, Flags, TestMachine.KernelStack, 0);
        }

        Frame(machine, Ordinary, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, 0);
        Assert.Equal(0, machine.RunToStub());
        Assert.Equal(0, machine.Registers.Segments[2].Selector);
        Assert.Equal(2, Interpreted(machine));
    }

    [Fact]
    public void User_code_sees_the_selectors_that_it_was_given()
    {
        using TestMachine machine = Make(toUser: true);
        Frame(machine, Ordinary, TestMachine.UserCode + 0x80, TestMachine.UserCode64, Flags, TestMachine.UserStack, TestMachine.UserData);
        machine.Assemble(TestMachine.UserCode + 0x80, 64, a =>
        {
            a.mov(eax, cs);
            a.mov(ebx, ss);
            a.ud2();
        });
        Assert.Equal(ExceptionVector.InvalidOpcode, machine.RunToStub());
        Assert.Equal((TestMachine.UserCode64, TestMachine.UserData), ((ushort)machine.Registers.Gpr[0], (ushort)machine.Registers.Gpr[3]));
    }

    [Theory]
    [InlineData(NotCanonical, Code, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, 0)]
    [InlineData(TestMachine.Stubs, 0, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, 0)]
    [InlineData(TestMachine.Stubs, 0, Flags, 0, ExceptionVector.GeneralProtection, 0)]
    [InlineData(TestMachine.Stubs, 0xFFF8, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, 0xFFF8)]
    [InlineData(TestMachine.Stubs, Code | 4, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, Code | 4)]
    [InlineData(TestMachine.Stubs, Code | 3, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, Code)]
    [InlineData(TestMachine.Stubs, TestMachine.KernelData, Flags, TestMachine.KernelData, ExceptionVector.GeneralProtection, TestMachine.KernelData)]
    [InlineData(TestMachine.Stubs, Code, Flags, TestMachine.UserData, ExceptionVector.GeneralProtection, TestMachine.UserData & 0xFFFC)]
    [InlineData(TestMachine.Stubs, OtherCode, Flags, TestMachine.KernelData, ExceptionVector.SegmentNotPresent, OtherCode)]
    public void What_a_return_must_not_load_faults_at_it(ulong rip, int code, ulong flags, int stack, int vector, int error)
    {
        using TestMachine machine = Make(toUser: false);
        machine.SetDescriptor(OtherCode, TestMachine.Segment(0xFFFFF, 0x1B, 0xA));
        Frame(machine, Ordinary, rip, (ushort)code, flags, TestMachine.KernelStack, (ushort)stack);
        Assert.Equal(vector, machine.RunToStub());
        Assert.Equal((ulong)error, machine.Frame(0));
        Assert.Equal(Return, machine.Frame(1));

        // ADD has left PF before the IRETQ: a fault finds it.
        Assert.Equal(Flags | Rflags.Resume | Rflags.Parity, machine.Frame(3));
    }

    [Theory]
    [InlineData(Rflags.Direction)]
    [InlineData(Rflags.Iopl)]
    [InlineData(Rflags.NestedTask)]
    [InlineData(Rflags.AlignmentCheck)]
    public void Unusual_flags_are_taken_as_they_are(ulong flag)
    {
        using TestMachine machine = Make(toUser: false);
        Frame(machine, Ordinary, TestMachine.Stubs, Code, Flags | flag, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(0, machine.RunToStub());
        Assert.Equal(Flags | flag, machine.Registers.Rflags);
    }

    [Fact]
    public void The_trap_flag_traps_behind_the_first_instruction()
    {
        using TestMachine machine = Make(toUser: false);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.nop();
            a.nop();
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags | Rflags.Trap, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(ExceptionVector.Debug, machine.RunToStub());
        Assert.Equal(TestMachine.Code + 0x81, machine.Frame(0));
    }

    [Fact]
    public void With_a_nested_task_it_faults()
    {
        using TestMachine machine = Make(toUser: false);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.pushfq();
            a.or(__qword_ptr[rsp], (int)Rflags.NestedTask);
            a.popfq();
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Frame(machine, Ordinary + 1, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(ExceptionVector.GeneralProtection, machine.RunToStub());
        Assert.Equal(Return, machine.Frame(1));
    }

    [Fact]
    public void Compatibility_mode_is_entered()
    {
        using TestMachine machine = Make(toUser: true);

        // DEC EAX; UD2: in 64-bit code the first would be a prefix.
        machine.Memory.TryWrite(TestMachine.UserCode + 0x80, [0x48, 0x0F, 0x0B]);
        Frame(machine, Ordinary, TestMachine.UserCode + 0x80, TestMachine.UserCode32, Flags, TestMachine.UserStack, TestMachine.UserData);
        Assert.Equal(ExceptionVector.InvalidOpcode, machine.RunToStub());
        Assert.Equal(TestMachine.UserCode + 0x81, machine.Frame(0));
        Assert.Equal(TestMachine.UserCode32, machine.Frame(1));
    }

    [Theory]
    [InlineData(0x1B, 0xA, ExceptionVector.SegmentNotPresent)]
    [InlineData(0x9B, 0xE, ExceptionVector.GeneralProtection)]
    [InlineData(0x93, 0xA, ExceptionVector.GeneralProtection)]
    [InlineData(0xFB, 0xA, ExceptionVector.GeneralProtection)]
    public void A_descriptor_that_the_guest_has_changed_is_loaded_anew(byte access, byte flags, int vector)
    {
        using TestMachine machine = Make(toUser: false);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.mov(rax, TestMachine.Segment(0xFFFFF, access, flags));
            a.mov(__qword_ptr[TestMachine.Gdt + Code], rax);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Frame(machine, Ordinary + 1, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(vector, machine.RunToStub());
        Assert.Equal(Code, machine.Frame(0));
        Assert.Equal(Return, machine.Frame(1));
    }

    [Theory]
    [InlineData(0x2_F000, 0xFFF)]
    [InlineData(0x1000, Code - 1)]
    public void Another_table_is_looked_at(ulong table, int limit)
    {
        using TestMachine machine = Make(toUser: false);

        // The other one has all but the selector that is returned to.
        byte[] copy = new byte[Code];
        Assert.True(machine.Memory.TryRead(TestMachine.Gdt, copy));
        machine.Memory.TryWrite(0x2_F000, copy);
        machine.Memory.TryWrite(TestMachine.Code + 0xF00, [(byte)limit, (byte)(limit >> 8), .. BitConverter.GetBytes(table)]);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.lgdt(__tbyte_ptr[TestMachine.Code + 0xF00]);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Frame(machine, Ordinary + 1, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(ExceptionVector.GeneralProtection, machine.RunToStub());
        Assert.Equal(Code, machine.Frame(0));
        Assert.Equal(Return, machine.Frame(1));
    }

    [Fact]
    public void A_frame_in_a_page_that_is_not_present_faults_there()
    {
        using TestMachine machine = Make(toUser: false);
        machine.SetPage(0x1_5000, 0);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.mov(rdi, 0x1_5123L);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        machine.SetGate(ExceptionVector.PageFault, 0x8E, TestMachine.KernelCode, ist: 1);
        Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
        Assert.Equal(0x1_5123UL, machine.Registers.Cr2);
        Assert.Equal(Return, machine.Frame(1));
        Assert.Equal(0UL, machine.Frame(0));
    }

    [Fact]
    public void A_frame_may_be_read_only_and_cross_a_page()
    {
        using TestMachine machine = Make(toUser: false);
        machine.SetPage(0x6_E000, 0x6_E000 | PageTableEntry.Present);
        machine.SetPage(0x6_F000, 0x6_F000 | PageTableEntry.Present);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.mov(rdi, 0x6_EFF0L);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        WriteFrame(machine, 0x6_EFF0, TestMachine.Code, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        WriteFrame(machine, 0x6_F018, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Assert.Equal(0, machine.RunToStub());
    }

    [Fact]
    public void The_descriptor_table_may_vanish()
    {
        using TestMachine machine = Make(toUser: false);
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.mov(__qword_ptr[TestMachine.PageTables + 0x3000 + (TestMachine.Gdt >> 12 << 3)], 0);
            a.invlpg(__byte_ptr[TestMachine.Gdt]);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.Code + 0x80, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
        Frame(machine, Ordinary + 1, TestMachine.Stubs, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);

        // Neither the page fault nor the double fault finds a descriptor.
        ProcessorExit exit = machine.Cpu.Run();
        Assert.Equal(ProcessorExitKind.TripleFault, exit.Kind);
    }

    [Fact]
    public void An_interrupt_that_waits_comes_as_soon_as_the_return_lets_it()
    {
        using TestMachine machine = Make(toUser: false);
        Frame(machine, Ordinary, TestMachine.Stubs + 0xFF0, Code, Flags | Rflags.Interrupt, TestMachine.KernelStack, TestMachine.KernelData);
        machine.QueueInterrupt(0x40);
        Assert.Equal(0x40, machine.RunToStub());
        Assert.Equal(TestMachine.Stubs + 0xFF0, machine.Frame(0));
    }

    [Fact]
    public void A_data_segment_of_the_supervisor_becomes_null_in_user_code()
    {
        using TestMachine machine = Make(toUser: true);
        machine.Assemble(TestMachine.UserCode + 0x80, 64, a => a.syscall());
        machine.Assemble(TestMachine.Code + 0x80, 64, a =>
        {
            a.mov(eax, TestMachine.KernelData);
            a.mov(es, eax);
            a.jmp(TestMachine.Code);
        });
        machine.Assemble(TestMachine.UserCode + 0x90, 64, a =>
        {
            a.mov(ebx, es);
            a.ud2();
        });
        machine.Assemble(TestMachine.Code + 0x40, 64, a =>
        {
            a.cmp(rdi, (int)(Frames + ((Ordinary + 1) * 40)));
            a.je(TestMachine.Code + 0x80);
            a.jmp(TestMachine.Code);
        });
        Frame(machine, Ordinary, TestMachine.UserCode + 0x80, TestMachine.UserCode64, Flags, TestMachine.UserStack, TestMachine.UserData);
        Frame(machine, Ordinary + 1, TestMachine.UserCode + 0x90, TestMachine.UserCode64, Flags, TestMachine.UserStack, TestMachine.UserData);
        Assert.Equal(ExceptionVector.InvalidOpcode, machine.RunToStub());
        Assert.Equal(0UL, machine.Registers.Gpr[3]);
    }

    /// <summary>IRETQ by one frame after the other, from <see cref="Frames"/>; those from <see cref="Ordinary"/> on are the test's.</summary>
    private static TestMachine Make(bool toUser)
    {
        TestMachine machine = TestMachine.Long();
        machine.SetDescriptor(Code, TestMachine.Segment(0xFFFFF, 0x9B, 0xA));
        machine.Registers.Cr4 |= Cr4.SupervisorModeAccessPrevention;
        for (ulong page = 0; page < 512; page++)
        {
            bool isUser = page is TestMachine.UserCode >> 12 or TestMachine.UserStack >> 12 or (TestMachine.UserStack >> 12) + 1;
            machine.SetPage(page << 12, (page << 12) | PageTableEntry.Present | PageTableEntry.Writable | (isUser ? PageTableEntry.User : 0));
        }

        foreach (int segment in (int[])[0, 3, 4, 5])
        {
            machine.Registers.Segments[segment] = default;
        }

        machine.Registers.Rflags = Flags;
        machine.Registers.Gpr[7] = Frames;
        machine.Registers.Gpr[6] = Frames;
        machine.Apply();
        machine.Cpu.State->Lstar = TestMachine.Code + 0x40;
        machine.Cpu.State->Star = (ulong)TestMachine.KernelCode << 32;
        machine.Cpu.State->Sfmask = ~Rflags.AlwaysOne & 0xFFFF_FFFF;
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            a.mov(rsp, rdi);
            a.add(rdi, 40);
            a.iretq();
        });
        machine.Assemble(TestMachine.Code + 0x40, 64, a => a.jmp(TestMachine.Code));
        machine.Assemble(UserReturned, 64, a => a.syscall());
        for (int i = 0; i < Ordinary; i++)
        {
            if (toUser)
            {
                Frame(machine, i, UserReturned, TestMachine.UserCode64, Flags, TestMachine.UserStack, TestMachine.UserData);
            }
            else
            {
                Frame(machine, i, TestMachine.Code, Code, Flags, TestMachine.KernelStack, TestMachine.KernelData);
            }
        }

        return machine;
    }

    private static void Frame(TestMachine machine, int number, ulong rip, ushort code, ulong flags, ulong rsp, ushort stack) =>
        WriteFrame(machine, Frames + ((ulong)number * 40), rip, code, flags, rsp, stack);

    private static void WriteFrame(TestMachine machine, ulong at, ulong rip, ushort code, ulong flags, ulong rsp, ushort stack)
    {
        foreach (ulong item in (ulong[])[rip, code, flags, rsp, stack])
        {
            machine.Write(at, item);
            at += 8;
        }
    }

    private static long Interpreted(TestMachine machine) => machine.Cpu.ReadCounters()
        .Where(counter => string.Equals(counter.Name, "IRETQ", StringComparison.OrdinalIgnoreCase)).Sum(counter => counter.Value);
}
