using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests;
using Tutti.Cpu.Interpreter.Tests.System;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>User code that runs untranslated, in a process of its own: what comes of it is what the guest's processor says.</summary>
public class DirectTests
{
    /// <summary>Hosts give nothing below 64 KiB.</summary>
    private const ulong User = 0x8_0000;
    private const ulong First = 0x9_0000;
    private const ulong Second = First ^ 0x1000;
    private const ulong Entry = TestMachine.PageTables + 0x3000 + ((First >> 12) * 8);
    private const ulong ReadOnly = PageTableEntry.Present | PageTableEntry.User;
    private const ulong Writable = ReadOnly | PageTableEntry.Writable;
    private const ulong Used = PageTableEntry.Accessed | PageTableEntry.Dirty;
    private const int Service = 0x80;
    private const ulong ServiceCode = 0x8_4000;
    private const int Undefined = 6;
    private const int PageFault = 14;

    [Fact]
    public void A_loop_computes()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        Code(machine, static a =>
        {
            Label loop = a.CreateLabel();
            a.mov(ecx, 1_000_000);
            a.xor(eax, eax);
            a.pxor(xmm1, xmm1);
            a.mov(edx, 3);
            a.movq(xmm2, rdx);
            a.Label(ref loop);
            a.add(rax, rcx);
            a.paddq(xmm1, xmm2);
            a.dec(rcx);
            a.jne(loop);
            a.movq(r15, xmm1);
            a.mov(r8, rsp);
            a.push(rax);
            a.pop(r14);
            a.stc();
        });
        Run(machine, Undefined);
        Assert.Equal(500_000_500_000UL, machine.Registers.Gpr[0]);
        Assert.Equal(500_000_500_000UL, machine.Registers.Gpr[14]);
        Assert.Equal(3_000_000UL, machine.Registers.Gpr[15]);
        Assert.Equal(TestMachine.UserStack, machine.Registers.Gpr[8]);
        Assert.Equal(Rflags.Carry, machine.Frame(2) & Rflags.Carry);
        Assert.True(direct.Counters.Entries > 0);
        Assert.Equal(0, direct.Counters.Refusals);
        Assert.Equal(0, direct.Counters.Translated);
    }

    [Fact]
    public void A_system_call_goes_to_the_guests_kernel()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        machine.Registers.Msrs[Msr.Lstar] = ServiceCode;
        machine.Registers.Msrs[Msr.Star] = (ulong)TestMachine.KernelCode << 32;
        machine.Registers.Msrs[Msr.Sfmask] = Rflags.Interrupt;
        machine.Assemble(ServiceCode, 64, static a => a.ud2());
        Code(machine, static a =>
        {
            a.mov(rax, 0x1234_5678_9ABC_DEF0);
            a.mov(edi, 60);
            a.syscall();
        });
        Run(machine, Undefined);
        Assert.Equal(ServiceCode, machine.Frame(0));
        Assert.Equal(0x1234_5678_9ABC_DEF0UL, machine.Registers.Gpr[0]);
        Assert.Equal(User + 17, machine.Registers.Gpr[1]);
        Assert.Equal(Rflags.AlwaysOne | Rflags.Interrupt, machine.Registers.Gpr[11] & ~Rflags.Arithmetic);
        Assert.Equal(1, direct.Counters.Exits[(int)DirectExit.SystemCall]);
    }

    [Fact]
    public void Accessed_and_dirty_bits_are_set_by_the_access_that_sets_them()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        for (int i = 0; i < 2; i++)
        {
            machine.SetPage(First, First | Writable);
            Code(machine, static a => a.mov(rax, __[rbx]));
            Run(machine, Undefined);
            Assert.Equal(PageTableEntry.Accessed, machine.Read<ulong>(Entry) & Used);
            Code(machine, static a => a.mov(__[rbx], rsp));
            Run(machine, Undefined);
            Assert.Equal(Used, machine.Read<ulong>(Entry) & Used);
        }

        Assert.True(direct.Counters.Exits[(int)DirectExit.PageFault] >= 4);
    }

    [Fact]
    public void Page_faults_are_the_guests()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        Code(machine, static a => a.add(__qword_ptr[rbx + 8], 1));
        machine.SetPage(First, First | ReadOnly);
        Run(machine, PageFault);
        Assert.Equal(PageFaultError.Present | PageFaultError.Write | PageFaultError.User, machine.Frame(0));
        Assert.Equal(First + 8, machine.Registers.Cr2);

        machine.SetPage(First, 0);
        Run(machine, PageFault);
        Assert.Equal(PageFaultError.Write | PageFaultError.User, machine.Frame(0));

        Code(machine, static a => a.mov(rax, __[rbx]));
        Run(machine, PageFault);
        Assert.Equal((ulong)PageFaultError.User, machine.Frame(0));
        Assert.Equal(User, machine.Frame(1));

        // A supervisor's page.
        machine.SetPage(First, First | PageTableEntry.Present | PageTableEntry.Writable);
        Run(machine, PageFault);
        Assert.Equal(PageFaultError.Present | PageFaultError.User, machine.Frame(0));

        machine.SetPage(First, First | Writable);
        Run(machine, Undefined);
        Assert.Equal(4, direct.Counters.Raised);
    }

    [Fact]
    public void A_page_that_must_not_be_executed_is_not()
    {
        using TestMachine machine = Machine(out _);
        Code(machine, static a => a.jmp(rbx));
        machine.SetPage(First, First | Writable | PageTableEntry.NoExecute);
        machine.Write(First, 0x0B0FUL);
        Run(machine, PageFault);
        Assert.Equal(PageFaultError.Present | PageFaultError.InstructionFetch | PageFaultError.User, machine.Frame(0));
        Assert.Equal(First, machine.Frame(1));

        machine.SetPage(First, First | Writable);
        Run(machine, Undefined);
        Assert.Equal(First, machine.Frame(0));
    }

    [Fact]
    public void Code_that_is_written_runs_as_it_is_written()
    {
        using TestMachine machine = Machine(out DirectExecution direct);

        // A function at RBX, MOV EAX, imm8; RET, is called and changed in turn.
        machine.Write(First, 0xC3_0000_0000_B8UL);
        Code(machine, static a =>
        {
            Label loop = a.CreateLabel();
            a.xor(esi, esi);
            a.mov(ecx, 20);
            a.Label(ref loop);
            a.mov(__byte_ptr[rbx + 1], cl);
            a.call(rbx);
            a.add(esi, eax);
            a.dec(ecx);
            a.jne(loop);
        });
        Run(machine, Undefined);
        Assert.Equal(210UL, machine.Registers.Gpr[6]);
        Assert.True(direct.Counters.Exits[(int)DirectExit.Fetch] >= 20);
    }

    [Fact]
    public void A_write_to_translated_code_is_seen()
    {
        using TestMachine machine = Machine(out DirectExecution direct);

        // The page is shown to be written, then the supervisor calls its function, which is translated for that, then it is written again.
        machine.Write(First, 0xC3_0000_0001_B8UL);
        machine.Assemble(ServiceCode, 64, static a =>
        {
            a.call(rbx);
            a.iretq();
        });
        Code(machine, static a =>
        {
            a.mov(__byte_ptr[rbx + 0x800], 0);
            a.@int(Service);
            a.mov(ecx, eax);
            a.mov(__byte_ptr[rbx + 1], 2);
            a.@int(Service);
        });
        Run(machine, Undefined);
        Assert.Equal(1UL, machine.Registers.Gpr[1]);
        Assert.Equal(2UL, machine.Registers.Gpr[0]);
        Assert.True(direct.Counters.Entries >= 3);
    }

    [Fact]
    public void Attention_stops_code_that_computes()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        Code(machine, static a =>
        {
            Label loop = a.CreateLabel();
            a.Label(ref loop);
            a.inc(rsi);
            a.jmp(loop);
        });
        for (int i = 0; i < 20; i++)
        {
            // At once, perhaps before the code runs at all, and when it has run for a while.
            using var timer = new Timer(_ => machine.QueueInterrupt(0x30), null, 25 * (i % 3), Timeout.Infinite);
            Run(machine, 0x30);
            Assert.InRange(machine.Frame(0), User, User + 5);
        }

        Assert.True(machine.Registers.Gpr[6] > 1000);
        Assert.True(direct.Counters.Exits[(int)DirectExit.Attention] > 0);
    }

    [Fact]
    public void Invlpg_hides_the_page_that_it_names()
    {
        using TestMachine machine = Machine(out _);
        machine.Assemble(ServiceCode, 64, static a =>
        {
            a.mov(rdx, Entry);
            a.mov(__[rdx], rdi);
            a.invlpg(__[rbx]);
            a.iretq();
        });
        machine.Write(First, 3UL);
        machine.Write(Second, 30UL);
        Code(machine, static a =>
        {
            a.add(__qword_ptr[rbx], 1);
            a.mov(rdi, Second | Writable);
            a.@int(Service);
            a.mov(rax, __[rbx]);
            a.add(__qword_ptr[rbx], 1);
            a.mov(rdi, First | ReadOnly);
            a.@int(Service);
            a.mov(rcx, __[rbx]);
            a.mov(__[rbx], rcx);
        });
        Run(machine, PageFault);
        Assert.Equal(30UL, machine.Registers.Gpr[0]);
        Assert.Equal(4UL, machine.Registers.Gpr[1]);
        Assert.Equal(31UL, machine.Read<ulong>(Second));
        Assert.Equal(PageFaultError.Present | PageFaultError.Write | PageFaultError.User, machine.Frame(0));
    }

    [Fact]
    public void Pages_follow_the_tables_when_all_translations_go()
    {
        using TestMachine machine = Machine(out _);
        machine.Write(First, 3UL);
        machine.Write(Second, 30UL);
        Code(machine, static a => a.mov(rax, __[rbx]));
        foreach (ulong page in (ulong[])[First, Second, Second, First])
        {
            machine.SetPage(First, page | Writable);
            Run(machine, Undefined);
            Assert.Equal(page == First ? 3UL : 30UL, machine.Registers.Gpr[0]);
        }
    }

    /// <summary>What tells of the processor, or of the time, tells of the guest's.</summary>
    [Fact]
    public void Cpuid_and_time_are_the_guests()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        Code(machine, static a =>
        {
            a.rdtsc();
            a.mov(esi, eax);
            a.mov(eax, 0x4000_0000);
            a.cpuid();
            a.mov(edi, ebx);
            a.mov(eax, 7);
            a.xor(ecx, ecx);
            a.cpuid();
            a.mov(r9d, ebx);
        });
        Run(machine, Undefined);
        Assert.True(direct.Counters.Entries >= 3);
        ulong[] found = [.. machine.Registers.Gpr];
        direct.Dispose();
        Run(machine, Undefined);
        Assert.Equal(found[6], machine.Registers.Gpr[6]);
        Assert.Equal(found[7], machine.Registers.Gpr[7]);
        Assert.Equal(found[9], machine.Registers.Gpr[9]);
    }

    [Theory]
    [InlineData("int3", 3, 1)]
    [InlineData("divide", 0, 0)]
    [InlineData("hlt", 13, 0)]
    [InlineData("gate", 13, 0)]
    [InlineData("canonical", 13, 0)]
    public void Exceptions_are_the_guests(string kind, int vector, int behind)
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        machine.SetGate(3, 0xEE);
        Code(machine, a =>
        {
            switch (kind)
            {
                case "int3":
                    a.int3();
                    break;
                case "divide":
                    a.div(r12);
                    break;
                case "hlt":
                    a.hlt();
                    break;
                case "gate":
                    a.@int(0x21);
                    break;
                default:
                    a.mov(rax, __[r13]);
                    break;
            }
        });
        machine.Registers.Gpr[12] = 0;
        machine.Registers.Gpr[13] = 1UL << 60;
        Run(machine, vector);
        Assert.Equal(User + (ulong)behind, machine.Frame(ExceptionVector.HasErrorCode(vector) ? 1 : 0));
        Assert.True(direct.Counters.Entries > 0);
    }

    /// <summary>Hosts have a page there.</summary>
    [Fact]
    public void The_hosts_page_of_old_system_calls_is_not_there()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        Code(machine, static a =>
        {
            a.mov(rsi, 0xFFFF_FFFF_FF60_0000);
            a.call(rsi);
        });
        Run(machine, PageFault);
        Assert.Equal(0xFFFF_FFFF_FF60_0000, machine.Registers.Cr2);
        Assert.Equal(0xFFFF_FFFF_FF60_0000, machine.Frame(1));
        Assert.Equal(TestMachine.UserStack - 8, machine.Frame(4));
        Assert.True(direct.Counters.Entries > 0);
    }

    [Fact]
    public void Bases_and_vectors_stay_the_guests_own()
    {
        using TestMachine machine = Machine(out DirectExecution direct);
        machine.Assemble(ServiceCode, 64, static a =>
        {
            a.movq(xmm3, rdi);
            a.rdfsbase(rdx);
            a.iretq();
        });
        Code(machine, static a =>
        {
            a.mov(eax, 0x9_0010);
            a.wrfsbase(rax);
            a.mov(ecx, 77);
            a.mov(__[rax], rcx);
            a.mov(edi, 5);
            a.movq(xmm4, rax);
            a.@int(Service);
            a.mov(rsi, __.fs[0]);
            a.movq(r8, xmm3);
            a.movq(r9, xmm4);
        });
        Run(machine, Undefined);
        Assert.Equal(0x9_0010UL, machine.Registers.Gpr[2]);
        Assert.Equal(77UL, machine.Registers.Gpr[6]);
        Assert.Equal(5UL, machine.Registers.Gpr[8]);
        Assert.Equal(0x9_0010UL, machine.Registers.Gpr[9]);
        Assert.True(direct.Counters.VectorLoads > 0);
    }

    private static TestMachine Machine(out DirectExecution direct)
    {
        TestedEngine.RunsDirectly = true;
        TestMachine machine;
        try
        {
            machine = TestMachine.Long();
        }
        finally
        {
            TestedEngine.RunsDirectly = false;
        }

        direct = Assert.IsType<Translator>(machine.Cpu.Tier).Direct!;
        direct.IsAlways = true;
        direct.IgnoresSelectors = true;
        machine.Registers.Cr4 |= Cr4.FsGsBase | Cr4.OsXsave | Cr4.OsXmmException;
        machine.Registers.Xcr0 = 7;
        machine.Registers.Rflags |= Rflags.Interrupt;
        machine.SetGate(Service, 0xEE);
        machine.Assemble(TestMachine.Stubs + (Service * TestMachine.StubSize), 64, static a => a.jmp(ServiceCode));
        return machine;
    }

    private static void Code(TestMachine machine, Action<Assembler> write) => machine.Assemble(User, 64, a =>
    {
        write(a);
        a.ud2();
    });

    private static void Run(TestMachine machine, int vector)
    {
        machine.EnterUser();
        machine.Registers.Rip = User;
        machine.Registers.Rflags |= Rflags.Interrupt;
        machine.Registers.Gpr[3] = First;
        machine.Apply();
        Assert.Equal(vector, machine.RunToStub());
    }
}
