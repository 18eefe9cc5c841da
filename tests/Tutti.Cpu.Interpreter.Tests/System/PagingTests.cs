using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>The permission matrix of paging, against the rules written down anew as one expression.</summary>
public sealed class PagingTests
{
    private const ulong Target = TestMachine.Data;

    public enum Kind
    {
        Read,
        Write,
        Fetch,
    }

    private static readonly ulong[] Rights =
        [.. from p in (ulong[])[0, PageTableEntry.Present]
            from w in (ulong[])[0, PageTableEntry.Writable]
            from u in (ulong[])[0, PageTableEntry.User]
            from x in (ulong[])[0, PageTableEntry.NoExecute]
            select p | w | u | x];

    [Theory]
    [InlineData(false, Kind.Read)]
    [InlineData(false, Kind.Write)]
    [InlineData(false, Kind.Fetch)]
    [InlineData(true, Kind.Read)]
    [InlineData(true, Kind.Write)]
    [InlineData(true, Kind.Fetch)]
    public void LongModePermissionsFollowTheManual(bool user, Kind kind)
    {
        using TestMachine machine = TestMachine.Long();
        foreach (ulong rights in Rights)
        {
            foreach (int options in Enumerable.Range(0, 16))
            {
                Check(machine, user, kind, rights, (options & 1) != 0, (options & 2) != 0, (options & 4) != 0, (options & 8) != 0);
            }
        }
    }

    private static void Check(TestMachine machine, bool user, Kind kind, ulong rights, bool writeProtect, bool smep, bool smap, bool alignment)
    {
        ProcessorRegisters r = machine.Registers;
        machine.SetPage(Target, Target | rights);
        machine.Memory.TryWrite(Target, [0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        SetMode(machine, user, smep, smap);
        r.Cr0 = (r.Cr0 & ~Cr0.WriteProtect) | (writeProtect ? Cr0.WriteProtect : 0);
        r.Cr4 = (r.Cr4 & ~(Cr4.SupervisorModeExecutionPrevention | Cr4.SupervisorModeAccessPrevention))
            | (smep ? Cr4.SupervisorModeExecutionPrevention : 0) | (smap ? Cr4.SupervisorModeAccessPrevention : 0);
        r.Rflags = Rflags.AlwaysOne | Rflags.Iopl | (alignment ? Rflags.AlignmentCheck : 0);
        r.Gpr[3] = Target;
        r.Rip = TestMachine.Code;
        machine.Memory.TryWrite(TestMachine.Code, kind switch
        {
            Kind.Read => [0x8A, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE],
            Kind.Write => [0x88, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE],
            _ => [0xFF, 0xE3],
        });
        machine.Apply();
        string what = $"user {user} {kind} rights {rights:X} WP {writeProtect} SMEP {smep} SMAP {smap} AC {alignment}";
        int stub = machine.RunToStub();
        bool allowed = IsAllowed(user, kind, rights, writeProtect, smep, smap, alignment);
        Assert.True(stub == (allowed ? -1 : 14), what);
        ulong entry = machine.Read<ulong>(TestMachine.PageEntry(Target));
        if (!allowed)
        {
            ulong error = (rights & 1) | (kind == Kind.Write ? 2u : 0) | (user ? 4u : 0) | (kind == Kind.Fetch ? 16u : 0);
            Assert.True(machine.Frame(0) == error, what);
            Assert.True(r.Cr2 == Target, what);
            Assert.True((entry & (PageTableEntry.Accessed | PageTableEntry.Dirty)) == 0, what);
        }
        else
        {
            ulong marks = PageTableEntry.Accessed | (kind == Kind.Write ? PageTableEntry.Dirty : 0);
            Assert.True((entry & (PageTableEntry.Accessed | PageTableEntry.Dirty)) == marks, what);
        }
    }

    /// <summary>Everything else must be reachable whatever SMEP and SMAP say, so supervisor runs map it as supervisor.</summary>
    private static void SetMode(TestMachine machine, bool user, bool smep, bool smap)
    {
        ProcessorRegisters r = machine.Registers;
        ulong others = PageTableEntry.Present | PageTableEntry.Writable | (user ? PageTableEntry.User : 0);
        foreach (ulong page in (ulong[])[TestMachine.Code, TestMachine.KernelStack - 0x1000])
        {
            machine.SetPage(page, page | others);
        }

        for (ulong page = TestMachine.Stubs; page < TestMachine.Stubs + 0x1000; page += 0x1000)
        {
            machine.SetPage(page, page | PageTableEntry.Present | PageTableEntry.Writable);
        }

        foreach (ulong page in (ulong[])[TestMachine.Gdt, TestMachine.Idt, TestMachine.Tss, TestMachine.InnerStack - 0x1000])
        {
            machine.SetPage(page, page | PageTableEntry.Present | PageTableEntry.Writable);
        }

        r.Segments[1] = user
            ? new SegmentRegister(TestMachine.UserCode64, 0, uint.MaxValue, 0xA0FB)
            : new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
        r.Segments[2] = user
            ? new SegmentRegister(TestMachine.UserData, 0, uint.MaxValue, 0xC0F3)
            : new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
        r.Gpr[4] = TestMachine.KernelStack;
    }

    private static bool IsAllowed(bool user, Kind kind, ulong rights, bool writeProtect, bool smep, bool smap, bool alignment)
    {
        bool userPage = (rights & PageTableEntry.User) != 0;
        bool writable = (rights & PageTableEntry.Writable) != 0;
        return (rights & PageTableEntry.Present) != 0
            && (!user || userPage)
            && (kind != Kind.Fetch || (rights & PageTableEntry.NoExecute) == 0)
            && (kind != Kind.Fetch || user || !userPage || !smep)
            && (kind != Kind.Write || writable || (!user && !writeProtect))
            && (kind == Kind.Fetch || user || !userPage || !smap || alignment);
    }

    [Fact]
    public void ReservedBitOfAnEntryIsToldInTheErrorCode()
    {
        using TestMachine machine = TestMachine.Long();
        machine.SetPage(Target, Target | PageTableEntry.Present | (1UL << 45));
        machine.Memory.TryWrite(TestMachine.Code, [0xA0, 0, 0xA0, 0, 0, 0, 0, 0, 0]);
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(9UL, machine.Frame(0));
    }

    [Fact]
    public void StaleTranslationIsDroppedByInvlpgAndByWritingCr3()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Write(Target, 1u);
        machine.Write(TestMachine.KernelStack, 2u);
        ulong slot = TestMachine.PageEntry(Target);
        foreach (bool invlpg in (bool[])[true, false])
        {
            machine.SetPage(Target, Target | 7);
            machine.Registers.Rip = TestMachine.Code;
            machine.Apply();
            machine.Assemble(TestMachine.Code, 64, a =>
            {
                a.mov(Iced.Intel.AssemblerRegisters.ebx, Iced.Intel.AssemblerRegisters.__[Target]);
                a.mov(Iced.Intel.AssemblerRegisters.rax, (long)(TestMachine.KernelStack | 7));
                a.mov(Iced.Intel.AssemblerRegisters.__[slot], Iced.Intel.AssemblerRegisters.rax);
                if (invlpg)
                {
                    a.invlpg(Iced.Intel.AssemblerRegisters.__[Target]);
                }
                else
                {
                    a.mov(Iced.Intel.AssemblerRegisters.rax, Iced.Intel.AssemblerRegisters.cr3);
                    a.mov(Iced.Intel.AssemblerRegisters.cr3, Iced.Intel.AssemblerRegisters.rax);
                }

                a.mov(Iced.Intel.AssemblerRegisters.ecx, Iced.Intel.AssemblerRegisters.__[Target]);
                a.@out(TestMachine.ExitPort, Iced.Intel.AssemblerRegisters.al);
                a.hlt();
            });
            machine.RunToExit();
            Assert.Equal(1UL, machine.Registers.Gpr[3]);
            Assert.Equal(2UL, machine.Registers.Gpr[1]);
        }
    }

    [Theory]
    [InlineData(false, 0x83UL)] // 4 MiB page
    [InlineData(true, 0x83UL)] // PAE, 2 MiB page
    public void ProtectedModeLargePagesTranslateAndWriteProtect(bool pae, ulong entry)
    {
        using TestMachine machine = TestMachine.Protected();
        machine.Write(0x20_0040UL, 0x1111u);
        if (pae)
        {
            machine.Write(TestMachine.PageTables, TestMachine.PageTables + 0x1000 | 1);
            machine.Write(TestMachine.PageTables + 0x1000, entry);
            machine.Write(TestMachine.PageTables + 0x1000 + 8, 0x20_0000 | (entry & ~2UL));
            machine.Write(TestMachine.PageTables + 0x1000 + 16, 0x20_0000 | entry);
        }
        else
        {
            machine.Write(TestMachine.PageTables, (uint)entry);
            machine.Write(TestMachine.PageTables + 4, (uint)(entry & ~2UL));
        }

        ulong where = pae ? 0x20_0040UL : 0x60_0040UL;
        machine.Registers.Cr4 = pae ? Cr4.PhysicalAddressExtension : Cr4.PageSizeExtensions;
        machine.Registers.Cr3 = TestMachine.PageTables;
        machine.Registers.Cr0 |= Cr0.Paging | Cr0.WriteProtect;
        machine.Registers.Gpr[6] = where;
        machine.Apply();

        // mov eax, [esi]; mov [esi], eax
        machine.Memory.TryWrite(TestMachine.Code, [0x8B, 0x06, 0x89, 0x06]);
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(pae ? 0x1111UL : 0x1111UL, machine.Registers.Gpr[0]);
        Assert.Equal(3UL, machine.Frame(0, 4));
        Assert.Equal(where, machine.Registers.Cr2);
        Assert.Equal(TestMachine.Code + 2, machine.Frame(1, 4));
    }

    [Fact]
    public void CodeThatRewritesItselfRunsTheNewBytes()
    {
        using TestMachine machine = TestMachine.Long();
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            // The immediate of the MOV behind is changed just before it runs, in its own block.
            a.mov(Iced.Intel.AssemblerRegisters.__dword_ptr[TestMachine.Code + 12], 7);
            a.mov(Iced.Intel.AssemblerRegisters.ebx, 1);
            a.@out(TestMachine.ExitPort, Iced.Intel.AssemblerRegisters.al);
            a.hlt();
        });
        byte[] bytes = new byte[17];
        machine.Memory.TryRead(TestMachine.Code, bytes);
        Assert.Equal(0xBB, bytes[11]);
        machine.RunToExit();
        Assert.Equal(7UL, machine.Registers.Gpr[3]);
    }

    /// <summary>The same address is other code of the kernel's in another address space, where its page is not global.</summary>
    [Fact]
    public void SupervisorCodeThatIsNotGlobalGoesWithItsAddressSpace()
    {
        const ulong Called = 0x3_0000;
        const ulong OtherTables = TestMachine.PageTables + 0x8000;
        const ulong Rights = PageTableEntry.Present | PageTableEntry.Writable | PageTableEntry.User;
        using TestMachine machine = TestMachine.Long();
        for (ulong level = 0; level < 3; level++)
        {
            machine.Write(OtherTables + (level * 0x1000), (OtherTables + ((level + 1) * 0x1000)) | Rights);
        }

        for (ulong page = 0; page < 512; page++)
        {
            ulong frame = page << 12 == Called ? Called + 0x1000 : page << 12;
            machine.Write(OtherTables + 0x3000 + (page * 8), frame | Rights);
        }

        machine.Memory.TryWrite(Called, [0x83, 0xC3, 0x01, 0xC3]); // add ebx, 1; ret
        machine.Memory.TryWrite(Called + 0x1000, [0x83, 0xC3, 0x10, 0xC3]); // add ebx, 16; ret
        machine.Assemble(TestMachine.Code, 64, a =>
        {
            Iced.Intel.Label again = a.CreateLabel();
            a.xor(Iced.Intel.AssemblerRegisters.ebx, Iced.Intel.AssemblerRegisters.ebx);
            a.mov(Iced.Intel.AssemblerRegisters.ecx, 4);
            a.Label(ref again);
            a.call(Called);
            a.mov(Iced.Intel.AssemblerRegisters.eax, (uint)OtherTables);
            a.mov(Iced.Intel.AssemblerRegisters.cr3, Iced.Intel.AssemblerRegisters.rax);
            a.call(Called);
            a.mov(Iced.Intel.AssemblerRegisters.eax, (uint)TestMachine.PageTables);
            a.mov(Iced.Intel.AssemblerRegisters.cr3, Iced.Intel.AssemblerRegisters.rax);
            a.dec(Iced.Intel.AssemblerRegisters.ecx);
            a.jnz(again);
            a.@out(TestMachine.ExitPort, Iced.Intel.AssemblerRegisters.al);
            a.hlt();
        });
        machine.Apply();
        machine.RunToExit();
        Assert.Equal(0x44UL, machine.Registers.Gpr[3]);
    }

    /// <summary>The processor's own reads of tables are a supervisor's at any level, and AC does not lift SMAP for them.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void DescriptorsAreReadWithSupervisorRights(bool user)
    {
        using TestMachine machine = PagingFormat.All.Single(f => f.Name == "4-level, 4 KiB").CreateMachine();
        machine.Write(Target + 8, TestMachine.Segment(0xFFFFF, 0xF3, 0xC));
        foreach (ulong code in (ulong[])[TestMachine.Code, TestMachine.UserCode])
        {
            machine.Memory.TryWrite(code, [0x8E, 0xD8, 0x0F, 0x0B]); // mov ds, eax; ud2
        }

        ProcessorRegisters r = machine.Registers;
        r.Ldtr = new SegmentRegister(TestMachine.FreeSelector, Target, 0xFF, 0x82);
        foreach (int bits in Enumerable.Range(0, 8))
        {
            bool userPage = (bits & 1) != 0;
            bool smap = (bits & 2) != 0;
            machine.SetPage(Target, Target | PageTableEntry.Present | (userPage ? PageTableEntry.User : 0));
            r.Cr4 = (r.Cr4 & ~Cr4.SupervisorModeAccessPrevention) | (smap ? Cr4.SupervisorModeAccessPrevention : 0);
            r.Rflags = Rflags.AlwaysOne | ((bits & 4) != 0 ? Rflags.AlignmentCheck : 0);
            r.Gpr[0] = 0xF;
            if (user)
            {
                machine.EnterUser();
            }
            else
            {
                r.Segments[1] = new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
                r.Segments[2] = new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
                r.Rip = TestMachine.Code;
                r.Gpr[4] = TestMachine.KernelStack;
            }

            machine.Apply();
            bool faults = userPage && smap;
            Assert.True(machine.RunToStub() == (faults ? 14 : 6), $"user page {userPage}, SMAP {smap}, bits {bits}");
            if (faults)
            {
                Assert.Equal(PageFaultError.Present, machine.Frame(0));
                Assert.Equal(Target + 8, r.Cr2);
            }
        }
    }
}
