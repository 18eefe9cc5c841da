using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>Protection keys of user pages: rights, stale translations, RDPKRU, WRPKRU, XSAVE. Source: Intel SDM volume 3, "Protection Keys".</summary>
public sealed class ProtectionKeyTests
{
    private const int Key = 9;
    private const ulong Page = TestMachine.Data + 0x4000;
    private const ulong AreaAt = TestMachine.Data + 0x8000;
    private const uint ProtectionKeyFault = 32;

    /// <summary>WRPKRU takes EAX, with ECX and EDX 0: mov eax,imm; xor ecx,ecx; xor edx,edx; wrpkru.</summary>
    private static byte[] SetPkru(uint value) => [0xB8, .. BitConverter.GetBytes(value), 0x31, 0xC9, 0x31, 0xD2, 0x0F, 0x01, 0xEF];

    private static uint Rights(int key, uint bits) => bits << (2 * key);

    private static byte[] Extended(uint pkru)
    {
        byte[] area = new byte[XsaveLayout.SizeOf(XsaveLayout.Supported)];
        BitConverter.TryWriteBytes(area.AsSpan(XsaveLayout.Header), XsaveLayout.X87 | XsaveLayout.Sse | XsaveLayout.Pkru);
        BitConverter.TryWriteBytes(area.AsSpan((int)XsaveLayout.PkruOffset), pkru);
        return area;
    }

    /// <summary>64-bit code of a level, PKE on, <see cref="Page"/> with the key; all that runs is a supervisor's but for the user's own code.</summary>
    private static TestMachine Prepare(bool user, ulong more = 0)
    {
        TestMachine machine = TestMachine.Long();
        for (ulong page = 0; page < 512; page++)
        {
            ulong mine = page << 12 is TestMachine.UserCode or TestMachine.Data or AreaAt ? PageTableEntry.User : 0;
            machine.SetPage(page << 12, (page << 12) | PageTableEntry.Present | PageTableEntry.Writable | mine);
        }

        machine.SetPage(Page, Page | 7 | more | ((ulong)Key << PageTableEntry.KeyShift));
        machine.Registers.Cr4 |= Cr4.ProtectionKeyEnable | Cr4.OsXsave;
        machine.Registers.Xcr0 = XsaveLayout.X87 | XsaveLayout.Sse | XsaveLayout.Pkru;
        machine.Registers.ExtendedState = Extended(0);
        machine.Registers.Gpr[6] = Page;
        machine.Registers.Gpr[7] = AreaAt;
        if (user)
        {
            machine.EnterUser();
        }

        machine.Apply();
        return machine;
    }

    private static void Load(TestMachine machine, bool user, byte[] code)
    {
        machine.Memory.TryWrite(user ? TestMachine.UserCode : TestMachine.Code, code);
        machine.Apply();
    }

    /// <summary>Every right of a key, of the page and of its reader, against the manual's rule.</summary>
    [Theory]
    [InlineData(4)] // 4-level, 4 KiB
    [InlineData(5)] // 2 MiB
    [InlineData(6)] // 1 GiB
    [InlineData(7)] // 5-level
    public void RightsOfTheKeyCountForDataOfUserPages(int index)
    {
        PagingFormat format = PagingFormat.All[index];
        using TestMachine machine = format.CreateMachine();
        foreach (ulong code in (ulong[])[TestMachine.Code, TestMachine.UserCode])
        {
            machine.Memory.TryWrite(code, [0x8A, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]); // mov al,[rbx]
            machine.Memory.TryWrite(code + 0x10, [0x88, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]); // mov [rbx],al
            machine.Memory.TryWrite(code + 0x20, [0xFF, 0xE3]); // jmp rbx
        }

        machine.Memory.TryWrite(TestMachine.Data, [0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        for (int bits = 0; bits < 1 << 10; bits++)
        {
            bool Bit(int number) => (bits >> number & 1) != 0;
            (bool user, bool writeProtect, bool enabled, bool userPage, bool writable) = (Bit(0), Bit(1), Bit(2), Bit(3), Bit(4));
            (uint denied, int key, bool smap, bool global) = ((uint)(bits >> 5) & 3, Bit(7) ? 15 : 0, Bit(8), Bit(9));
            for (int kind = 0; kind < 3; kind++)
            {
                bool write = kind == 1;
                bool fetch = kind == 2;
                int last = format.Levels.Length - 1;
                for (int level = 0; level <= last; level++)
                {
                    ulong rights = level < last ? 7 : 1 | (userPage ? 4UL : 0) | (writable ? 2UL : 0) | (global ? 0x100UL : 0) | ((ulong)key << 59);
                    format.WriteEntry(machine, format.Slot(level), format.Target(level) | rights);
                }

                bool keyDenies = enabled && userPage && !fetch && ((denied & 1) != 0 || (write && (denied & 2) != 0 && (user || writeProtect)));
                bool othersDeny = user ? !userPage || (write && !writable)
                    : (!fetch && smap && userPage) || (write && !writable && writeProtect);
                ProcessorRegisters r = machine.Registers;
                r.Cr0 = (r.Cr0 & ~Cr0.WriteProtect) | (writeProtect ? Cr0.WriteProtect : 0);
                r.Cr4 = (r.Cr4 & ~(Cr4.ProtectionKeyEnable | Cr4.SupervisorModeAccessPrevention)) | Cr4.PageGlobalEnable
                    | (enabled ? Cr4.ProtectionKeyEnable : 0) | (smap ? Cr4.SupervisorModeAccessPrevention : 0);
                r.Rflags = Rflags.AlwaysOne | Rflags.Iopl;
                r.ExtendedState = Extended(Rights(key, denied) | Rights((key + 5) & 15, 3));
                r.Segments[1] = user ? new SegmentRegister(TestMachine.UserCode64, 0, uint.MaxValue, 0xA0FB) : new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B);
                r.Segments[2] = r.Segments[3] = user ? new SegmentRegister(TestMachine.UserData, 0, uint.MaxValue, 0xC0F3) : new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
                r.Gpr[3] = format.Linear + (fetch ? 0 : 0x800UL);
                r.Gpr[4] = user ? TestMachine.UserStack : TestMachine.KernelStack;
                r.Rip = (user ? TestMachine.UserCode : TestMachine.Code) + ((ulong)kind * 0x10);
                machine.Apply();
                int vector = machine.RunToStub();
                string what = $"{format}, bits {bits:x}, kind {kind}";
                Assert.True(vector == (keyDenies || othersDeny ? ExceptionVector.PageFault : -1), $"{what}: vector {vector}");
                if (vector == ExceptionVector.PageFault)
                {
                    ulong error = 1 + (write ? 2UL : 0) + (user ? 4UL : 0) + (fetch ? 16UL : 0) + (keyDenies ? ProtectionKeyFault : 0);
                    Assert.True(machine.Frame(0) == error, $"{what}: error code {machine.Frame(0):x}, not {error:x}");
                }
            }
        }
    }

    /// <summary>
    /// Accesses that have just been done by what translated code remembers of the page: WRPKRU takes that away, of this key and no other. The
    /// page is a global one, too, and part of a large one; the access comes from the same block and from another.
    /// </summary>
    [Theory]
    [InlineData(false, false, 0UL)]
    [InlineData(false, true, 0UL)]
    [InlineData(true, false, 0UL)]
    [InlineData(true, true, 0UL)]
    [InlineData(true, false, PageTableEntry.Global)]
    [InlineData(true, true, PageTableEntry.Global)]
    public void WrpkruTakesBackWhatWasReachedBefore(bool user, bool write, ulong more)
    {
        byte[] access = write ? [0x89, 0x1E] : [0x8B, 0x1E]; // mov [rsi],ebx; mov ebx,[rsi]
        uint deny = Rights(Key, write ? Pkru.WriteDisable : Pkru.AccessDisable);
        byte[] loop = [0xB9, 0x20, 0, 0, 0, .. access, 0xFF, 0xC9, 0x75, (byte)(0 - 4 - access.Length)]; // mov ecx,32; again: access; dec ecx; jnz again
        byte[] other = SetPkru(Rights(Key + 1, 3));
        byte[] denied = SetPkru(deny | Rights(Key + 1, 3));

        // Other keys leave it alone; this one does not; the byte behind says that it went on.
        byte[] code = [.. loop, .. other, .. access, .. loop, .. denied, .. access, 0x0F, 0x0B];
        for (int time = 0; time < 2; time++)
        {
            using TestMachine machine = Prepare(user, more);
            machine.Registers.Cr4 |= Cr4.PageGlobalEnable;
            Load(machine, user, code);
            Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
            Assert.Equal((ulong)(1 + (write ? 2 : 0) + (user ? 4 : 0)) + ProtectionKeyFault, machine.Frame(0));
            Assert.Equal((user ? TestMachine.UserCode : TestMachine.Code) + (ulong)(code.Length - 2 - access.Length), machine.Frame(1));
            Assert.Equal(Page, machine.Registers.Cr2);
        }
    }

    /// <summary>Rights come back, and reads stay where only writes are denied.</summary>
    [Fact]
    public void WrpkruGivesBackAndReadsStayWhereWritesAreDenied()
    {
        using TestMachine machine = Prepare(user: true);
        machine.Write(Page, 0x1234_5678u);
        Load(machine, true,
        [
            .. SetPkru(Rights(Key, Pkru.WriteDisable)), 0x8B, 0x1E, // mov ebx,[rsi]
            .. SetPkru(0), 0xC7, 0x06, 0x44, 0x33, 0x22, 0x11, 0x8B, 0x2E, // mov [rsi],11223344h; mov ebp,[rsi]
            .. SetPkru(Rights(Key, Pkru.WriteDisable)), 0x44, 0x8B, 0x06, 0x83, 0x06, 0x01, // mov r8d,[rsi]; add [rsi],1
        ]);
        Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
        Assert.Equal(7 + ProtectionKeyFault, (uint)machine.Frame(0));
        Assert.Equal((0x1234_5678UL, 0x1122_3344UL, 0x1122_3344UL), (machine.Registers.Gpr[3], machine.Registers.Gpr[5], machine.Registers.Gpr[8]));
        Assert.Equal(0x1122_3344u, machine.Read<uint>(Page));
    }

    /// <summary>A supervisor with CR0.WP clear writes what WD denies; setting WP takes that back.</summary>
    [Fact]
    public void WriteProtectionOfSupervisorsCountsForKeysToo()
    {
        using TestMachine machine = Prepare(user: false);
        machine.Registers.Cr0 &= ~Cr0.WriteProtect;
        Load(machine, false,
        [
            .. SetPkru(Rights(Key, Pkru.WriteDisable)), 0xC7, 0x06, 0x44, 0x33, 0x22, 0x11, // mov [rsi],11223344h
            0x0F, 0x20, 0xC0, 0x0F, 0xBA, 0xE8, 16, 0x0F, 0x22, 0xC0, // mov rax,cr0; bts eax,16; mov cr0,rax
            0xC7, 0x06, 0, 0, 0, 0,
        ]);
        Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
        Assert.Equal(3 + ProtectionKeyFault, (uint)machine.Frame(0));
        Assert.Equal(0x1122_3344u, machine.Read<uint>(Page));
    }

    /// <summary>Without CR4.PKE the key's bits are nobody's; with it, what was reached before is looked at anew.</summary>
    [Fact]
    public void Cr4SwitchesKeysOn()
    {
        using TestMachine machine = Prepare(user: false);
        machine.Registers.Cr4 &= ~Cr4.ProtectionKeyEnable;
        machine.Registers.ExtendedState = Extended(Rights(Key, Pkru.AccessDisable));
        Load(machine, false,
        [
            0x8B, 0x1E, 0x0F, 0x20, 0xE0, 0x0F, 0xBA, 0xE8, 22, 0x0F, 0x22, 0xE0, // mov ebx,[rsi]; mov rax,cr4; bts eax,22; mov cr4,rax
            0x31, 0xC9, 0x0F, 0x01, 0xEE, 0x89, 0xC5, // xor ecx,ecx; rdpkru; mov ebp,eax
            0xB8, 7, 0, 0, 0, 0x0F, 0xA2, 0x8B, 0x1E, // mov eax,7; cpuid; mov ebx,[rsi]
        ]);
        Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
        Assert.Equal(1 + ProtectionKeyFault, (uint)machine.Frame(0));
        Assert.Equal(Rights(Key, Pkru.AccessDisable), machine.Registers.Gpr[5]);
        Assert.Equal(3u << 3, (uint)machine.Registers.Gpr[1] & (3u << 3));
    }

    [Theory]
    [InlineData(true, true, 0u, 0u, -1)]
    [InlineData(true, true, 1u, 0u, 13)]
    [InlineData(true, true, 0u, 1u, 13)]
    [InlineData(false, true, 0u, 0u, 6)]
    [InlineData(true, false, 0u, 5u, -1)]
    [InlineData(true, false, 1u, 0u, 13)]
    [InlineData(false, false, 0u, 0u, 6)]
    public void RegisterIsReachedWithCr4AndPlainOperands(bool enabled, bool write, uint ecx, uint edx, int vector)
    {
        foreach (bool user in (bool[])[false, true])
        {
            using TestMachine machine = Prepare(user);
            machine.Registers.Cr4 &= enabled ? ulong.MaxValue : ~Cr4.ProtectionKeyEnable;
            machine.Registers.Gpr[0] = 0xFFFF_FFFF_0000_0040;
            machine.Registers.Gpr[1] = 0xFFFF_FFFF_0000_0000 | ecx;
            machine.Registers.Gpr[2] = 0xFFFF_FFFF_0000_0000 | edx;
            Load(machine, user, [0x0F, 0x01, (byte)(write ? 0xEF : 0xEE), 0xBA, 9, 0, 0, 0, 0x0F, 0x01, 0xEE, 0xF1]); // w/rdpkru; mov edx,9; rdpkru; int1
            Assert.Equal(vector < 0 ? 1 : vector, machine.RunToStub());
            if (vector < 0)
            {
                Assert.Equal((write ? 0x40UL : 0, 0UL), (machine.Registers.Gpr[0], machine.Registers.Gpr[2]));
            }
        }
    }

    /// <summary>XSAVE keeps it, XRSTOR brings it, or its initial 0, and takes translations as WRPKRU does.</summary>
    [Fact]
    public void XsaveAndXrstorMoveIt()
    {
        using TestMachine machine = Prepare(user: true);
        byte[] ask = [0xB8, 0, 2, 0, 0, 0x31, 0xD2]; // mov eax,200h; xor edx,edx
        uint denied = Rights(Key, Pkru.AccessDisable);
        Load(machine, true,
        [
            .. SetPkru(denied), .. ask, 0x48, 0x0F, 0xAE, 0x27, // xsave64 [rdi]
            .. SetPkru(0), 0x8B, 0x1E, // mov ebx,[rsi]
            .. ask, 0x48, 0x0F, 0xAE, 0x2F, // xrstor64 [rdi]
            0x31, 0xC9, 0x0F, 0x01, 0xEE, 0x89, 0xC5, // xor ecx,ecx; rdpkru; mov ebp,eax
            0x8B, 0x1E,
        ]);
        machine.Write(AreaAt + 512, 0UL);
        Assert.Equal(ExceptionVector.PageFault, machine.RunToStub());
        Assert.Equal(5 + ProtectionKeyFault, (uint)machine.Frame(0));
        Assert.Equal(denied, machine.Registers.Gpr[5]);
        Assert.Equal(XsaveLayout.Pkru, machine.Read<ulong>(AreaAt + 512));
        Assert.Equal((ulong)denied, machine.Read<ulong>(AreaAt + XsaveLayout.PkruOffset));
        Assert.Equal(denied, BitConverter.ToUInt32(machine.Registers.ExtendedState!, (int)XsaveLayout.PkruOffset));

        // An area without it brings 0; XSAVEOPT writes nothing of what is 0.
        machine.Write(AreaAt + 512, 0UL);
        machine.EnterUser();
        Load(machine, true, [.. ask, 0x48, 0x0F, 0xAE, 0x2F, 0x8B, 0x1E, .. ask, 0x48, 0x0F, 0xAE, 0x37, 0xF1]); // xrstor64; mov ebx,[rsi]; xsaveopt64; int1
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(0UL, machine.Read<ulong>(AreaAt + 512));
        Assert.Equal((ulong)denied, machine.Read<ulong>(AreaAt + XsaveLayout.PkruOffset));
    }

    /// <summary>XCR0 does not have it: XSAVE and XRSTOR leave it alone.</summary>
    [Fact]
    public void XrstorNeedsXcr0ForIt()
    {
        using TestMachine machine = Prepare(user: true);
        machine.Registers.Xcr0 = XsaveLayout.X87 | XsaveLayout.Sse;
        Load(machine, true, [.. SetPkru(0x40), 0xB8, 0, 2, 0, 0, 0x48, 0x0F, 0xAE, 0x2F, 0x0F, 0x01, 0xEE, 0xF1]); // mov eax,200h; xrstor64; rdpkru; int1
        Assert.Equal(1, machine.RunToStub());
        Assert.Equal(0x40UL, machine.Registers.Gpr[0]);
    }

    /// <summary>A level shows neither, and its CR4 has no such bits.</summary>
    [Theory]
    [InlineData(Cr4.ProtectionKeyEnable)]
    [InlineData(Cr4.UserModeInstructionPrevention)]
    [InlineData(Cr4.PcidEnable)]
    [InlineData(Cr4.FsGsBase)]
    public void Cr4TakesOnlyWhatCpuidShows(ulong bit)
    {
        foreach (CpuModel model in (CpuModel[])[CpuModel.Host, CpuModel.X8664V2])
        {
            using TestMachine machine = TestMachine.Long(model);
            machine.Registers.Gpr[0] = machine.Registers.Cr4 | bit;
            machine.Apply();
            machine.Memory.TryWrite(TestMachine.Code, [0x0F, 0x22, 0xE0, 0x0F, 0x0B]); // mov cr4,rax; ud2
            Assert.Equal(model == CpuModel.Host ? 6 : 13, machine.RunToStub());
        }
    }
}
