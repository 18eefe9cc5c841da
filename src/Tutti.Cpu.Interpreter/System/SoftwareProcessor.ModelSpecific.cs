using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>Model-specific registers. What is not listed here raises #GP(0). Sources: see <see cref="Msr"/>.</summary>
internal sealed unsafe partial class SoftwareProcessor
{
    private const ulong WriteBackEverywhere = 0x0606_0606_0606_0606;
    private const ulong EferWritable = Efer.SyscallEnable | Efer.LongModeEnable | Efer.NoExecuteEnable | Efer.AutomaticIbrsEnable;

    /// <summary>IA32_APIC_BASE.EN.</summary>
    private const ulong ApicBaseEnable = 1UL << 11;

    /// <summary>MTRRdefType: enabled (11), fixed ranges enabled (10), write-back.</summary>
    private const ulong MtrrDefTypeAfterFirmware = 0xC06;

    private const ulong PhysicalMask = (1UL << SoftwareCpuid.PhysicalBits) - 1;

    /// <summary>Registers that only keep what was written, in the bits that may be.</summary>
    private static readonly PlainMsr[] PlainRegisters = MakePlainRegisters();

    private readonly ulong[] _plainValues = new ulong[PlainRegisters.Length];
    private ulong _kvmSystemTime;
    private ulong _kvmWallClock;
    private uint _kvmSystemTimeVersion;

    /// <param name="Number">The register's number; the table is sorted by it.</param>
    /// <param name="Reset">Value after power-on.</param>
    /// <param name="Writable">Bits that may be written; another bit set raises #GP(0).</param>
    /// <param name="MemoryTypes">The value is eight MTRR memory types.</param>
    /// <param name="IgnoresWrites">Whatever is written, the value stays and nothing faults.</param>
    private readonly record struct PlainMsr(uint Number, ulong Reset, ulong Writable, bool MemoryTypes = false, bool IgnoresWrites = false);

    /// <summary>
    /// Registers that AMD processors have, or had, and that guests read because the processor is one: as KVM has most of them, they read as 0
    /// and take whatever is written without an effect. No last branches are recorded and BTF steps no branches (DebugControl); no
    /// memory is system management's. LS_CFG is none of them: a kernel that finds it believes that it switches speculation off there.
    /// </summary>
    private static ReadOnlySpan<uint> SilentRegisters =>
    [
        Msr.DebugControl, Msr.PatchLoader, Msr.InterruptPending, Msr.MmioConfigurationBase, Msr.SmmAddress, Msr.SmmMask, Msr.HostSaveArea,
        Msr.InstructionCacheConfiguration, Msr.DataCacheConfiguration, Msr.TableWalkConfiguration,
        Msr.BusUnitConfiguration2, Msr.ExecutionConfiguration,
    ];

    private static PlainMsr[] MakePlainRegisters()
    {
        // This machine has no firmware that programs the MTRRs, so processors begin with them as firmware leaves them:
        // write-back, but for the legacy video memory and the gap below 4 GiB where devices are.
        List<PlainMsr> registers =
        [
            new(Msr.MtrrFix64K00000, WriteBackEverywhere, ulong.MaxValue, true),
            new(Msr.MtrrFix16K80000, WriteBackEverywhere, ulong.MaxValue, true),
            new(Msr.MtrrFix16KA0000, 0, ulong.MaxValue, true),
            new(Msr.MtrrDefType, MtrrDefTypeAfterFirmware, 0xCFF),
            new(Msr.Syscfg, 0, 0x00F4_0000),
            // TscFreqSel: the TSC counts at the rate of the P0 state.
            new(Msr.Hwcr, Msr.HwcrTscFreqSel, ulong.MaxValue >> 32),
            new(Msr.TopMem, 0, PhysicalMask),
            // Linux wants to set a bit of its own in there and reads it back.
            new(Msr.NorthBridgeConfiguration, 0, ulong.MaxValue),
            new(Msr.TopMem2, 0, PhysicalMask),
            new(Msr.OsvwIdLength, 0, 0),
            new(Msr.OsvwStatus, 0, 0),
            new(Msr.DecodeConfiguration, 2, ulong.MaxValue),
            // No banks, and so no machine checks. Kernels read both without a look at CPUID.
            new(Msr.MachineCheckCapabilities, 0, 0),
            new(Msr.MachineCheckStatus, 0, 0, IgnoresWrites: true),
            new(Msr.P5MachineCheckAddress, 0, 0),
            new(Msr.P5MachineCheckType, 0, 0),
            new(Msr.VirtualMachineControl, Msr.VirtualMachineControlSvmDisabled, 0, IgnoresWrites: true),
            // 100 MHz steps of family 0Fh, by which Linux tells whether the register is there.
            new(Msr.ClockControl, 0x2000_0000, 0, IgnoresWrites: true),
        ];
        foreach (uint number in SilentRegisters)
        {
            registers.Add(new(number, 0, 0, IgnoresWrites: true));
        }

        for (uint i = 0; i < Msr.PerfCounterCount; i++)
        {
            // They count nothing and keep nothing: a kernel that writes one and reads it back sees that, and does without.
            registers.Add(new(Msr.PerfEventSelect0 + i, 0, 0, IgnoresWrites: true));
            registers.Add(new(Msr.PerfCounter0 + i, 0, 0, IgnoresWrites: true));
            registers.Add(new(Msr.LastBranchFrom + i, 0, 0));
            registers.Add(new(Msr.IoRangeBase0 + i, 0, PhysicalMask));
        }

        for (uint i = 0; i < 8; i++)
        {
            bool gap = i == 0;
            registers.Add(new(Msr.MtrrPhysBase0 + (2 * i), gap ? 0xC000_0000UL : 0, (PhysicalMask & ~0xFFFUL) | 0xFF));
            registers.Add(new(Msr.MtrrPhysBase0 + (2 * i) + 1, gap ? (PhysicalMask & ~0x3FFF_FFFFUL) | 0x800 : 0, (PhysicalMask & ~0xFFFUL) | 0x800));
            registers.Add(new(Msr.MtrrFix4KC0000 + i, WriteBackEverywhere, ulong.MaxValue, true));
        }

        PlainMsr[] table = [.. registers];
        Array.Sort(table, static (a, b) => a.Number.CompareTo(b.Number));
        return table;
    }

    /// <summary>Sets how far the TSC is ahead of the guest clock, for RDTSC and for the TSC-deadline timer.</summary>
    private void SetTscOffset(long offset)
    {
        State->TscOffset = offset;
        Lapic.TscOffset = offset;
    }

    /// <summary>The TSC: 1 GHz.</summary>
    public ulong ReadTsc() => (ulong)(Clock.Nanoseconds + State->TscOffset);

    /// <summary>CPUID, in the state that the processor is in.</summary>
    public CpuidResult QueryCpuid(uint leaf, uint subleaf)
    {
        // Only these have a bit of the APIC's, which is behind a lock.
        bool hasApic = leaf is not (CpuidLeaf.Features or CpuidLeaf.ExtendedSignature) || (Lapic.ApicBase & ApicBaseEnable) != 0;
        return Cpuid.Query(leaf, subleaf, State->Cr4, State->Xcr0, hasApic);
    }

    /// <summary>RDMSR; false means #GP(0).</summary>
    public bool TryReadMsr(uint number, out ulong value)
    {
        if (number is Msr.TscDeadline or (>= Msr.X2ApicFirst and <= Msr.X2ApicLast))
        {
            LeaveGuest();
            bool isApicRegister = Lapic.TryReadMsr(number, out value);
            ReenterGuest();
            return isApicRegister;
        }

        ulong? known = number switch
        {
            Msr.FsBase => State->Fs.Base,
            Msr.GsBase => State->Gs.Base,
            Msr.KernelGsBase => State->KernelGsBase,
            Msr.Tsc => ReadTsc(),
            Msr.TscAux => State->TscAux,
            Msr.Efer => State->Efer,
            Msr.Star => State->Star,
            Msr.Lstar => State->Lstar,
            Msr.Cstar => State->Cstar,
            Msr.Sfmask => State->Sfmask,
            Msr.SysenterCs => State->SysenterCs,
            Msr.SysenterEsp => State->SysenterEsp,
            Msr.SysenterEip => State->SysenterEip,
            Msr.Pat => State->Pat,
            Msr.ApicBase => Lapic.ApicBase,
            // Eight variable ranges, fixed ranges, write-combining.
            Msr.MtrrCap => 0x508,
            // A revision that no microcode file beats.
            Msr.PatchLevel => 0x0FFF_FFFF,
            Msr.KvmSystemTime or Msr.KvmSystemTimeOld => _kvmSystemTime,
            Msr.KvmWallClock or Msr.KvmWallClockOld => _kvmWallClock,
            _ => null,
        };
        if (known is null)
        {
            int index = FindPlain(number);
            known = index >= 0 ? _plainValues[index] : null;
        }

        value = known.GetValueOrDefault();
        return known is not null;
    }

    /// <summary>WRMSR; false means #GP(0). EFER needs the caller to leave its block.</summary>
    public bool TryWriteMsr(uint number, ulong value)
    {
        switch (number)
        {
            case Msr.TscDeadline or (>= Msr.X2ApicFirst and <= Msr.X2ApicLast):
                LeaveGuest();
                bool written = Lapic.TryWriteMsr(number, value);
                ReenterGuest();
                return written;
            case Msr.FsBase:
                return TrySetCanonical(ref State->Fs.Base, value);
            case Msr.GsBase:
                return TrySetCanonical(ref State->Gs.Base, value);
            case Msr.KernelGsBase:
                return TrySetCanonical(ref State->KernelGsBase, value);
            case Msr.Lstar:
                return TrySetCanonical(ref State->Lstar, value);
            case Msr.Cstar:
                return TrySetCanonical(ref State->Cstar, value);
            case Msr.SysenterEsp:
                return TrySetCanonical(ref State->SysenterEsp, value);
            case Msr.SysenterEip:
                return TrySetCanonical(ref State->SysenterEip, value);
            case Msr.SysenterCs:
                State->SysenterCs = (uint)value;
                return true;
            case Msr.Star:
                State->Star = value;
                return true;
            case Msr.Sfmask:
                State->Sfmask = (uint)value;
                return true;
            case Msr.TscAux:
                if (value > uint.MaxValue)
                {
                    return false;
                }

                State->TscAux = value;
                return true;
            case Msr.Tsc:
                SetTscOffset((long)value - Clock.Nanoseconds);
                WriteKvmSystemTime();
                return true;
            case Msr.Efer:
                return TryWriteEfer(value);
            case Msr.Pat:
                return TryWritePat(value);
            case Msr.ApicBase:
                return (value & ~PhysicalMask) == 0 && Lapic.TryWriteApicBase(value);
            case Msr.PatchLevel:
                return true;
            case Msr.KvmSystemTime or Msr.KvmSystemTimeOld:
                _kvmSystemTime = value;
                WriteKvmSystemTime();
                return true;
            case Msr.KvmWallClock or Msr.KvmWallClockOld:
                _kvmWallClock = value;
                WriteKvmWallClock();
                return true;
            default:
                return TryWritePlain(number, value);
        }
    }

    private bool TrySetCanonical(ref ulong register, ulong value)
    {
        if (!IsLoadable(value))
        {
            return false;
        }

        register = value;
        return true;
    }

    private bool TryWriteEfer(ulong value)
    {
        // LMA is read-only; a write of it is ignored.
        value = (value & ~Efer.LongModeActive) | (State->Efer & Efer.LongModeActive);
        bool changesLongMode = ((value ^ State->Efer) & Efer.LongModeEnable) != 0;
        if ((value & ~(EferWritable | Efer.LongModeActive)) != 0 || (changesLongMode && (State->Cr0 & Cr0.Paging) != 0))
        {
            return false;
        }

        if (((value ^ State->Efer) & Efer.NoExecuteEnable) != 0)
        {
            FlushTlb();
        }

        State->Efer = value;
        UpdateMode();
        return true;
    }

    private bool TryWritePat(ulong value)
    {
        for (int i = 0; i < 64; i += 8)
        {
            if ((byte)(value >> i) is not (0 or 1 or (>= 4 and <= 7)))
            {
                return false;
            }
        }

        State->Pat = value;
        return true;
    }

    private static int FindPlain(uint number)
    {
        int low = 0;
        int high = PlainRegisters.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (PlainRegisters[middle].Number == number)
            {
                return middle;
            }

            if (PlainRegisters[middle].Number < number)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return -1;
    }

    private bool TryWritePlain(uint number, ulong value)
    {
        int index = FindPlain(number);
        if (index < 0)
        {
            return false;
        }

        if (PlainRegisters[index].IgnoresWrites)
        {
            return true;
        }

        if ((value & ~PlainRegisters[index].Writable) != 0)
        {
            return false;
        }

        bool types = PlainRegisters[index].MemoryTypes;
        for (int i = 0; types && i < 64; i += 8)
        {
            // Bits 3 and 4 are AMD's extension (RdMem, WrMem); the type proper is in the low three.
            if ((byte)(value >> i) is not (0 or 1 or 4 or 5 or 6))
            {
                return false;
            }
        }

        _plainValues[index] = value;
        return true;
    }

    private void ResetModelSpecificRegisters()
    {
        for (int i = 0; i < PlainRegisters.Length; i++)
        {
            _plainValues[i] = PlainRegisters[i].Reset;
        }

        _kvmSystemTime = 0;
        _kvmWallClock = 0;
    }

    private void ExportModelSpecificRegisters(Dictionary<uint, ulong> registers)
    {
        for (int i = 0; i < PlainRegisters.Length; i++)
        {
            registers[PlainRegisters[i].Number] = _plainValues[i];
        }

        foreach (uint number in ExportedMsrs)
        {
            TryReadMsr(number, out ulong value);
            registers[number] = value;
        }
    }

    /// <summary>Takes over what the state names; registers that it does not name keep their values, unknown ones are left out.</summary>
    private void ImportModelSpecificRegisters(Dictionary<uint, ulong> registers)
    {
        foreach ((uint number, ulong value) in registers)
        {
            // EFER, FS and GS bases have fields of their own in the state; the APIC base belongs to the APIC's.
            if (number is not (Msr.Efer or Msr.FsBase or Msr.GsBase or Msr.ApicBase))
            {
                TryWriteMsr(number, value);
            }
        }
    }

    private static readonly uint[] ExportedMsrs =
    [
        Msr.Tsc, Msr.TscAux, Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Sfmask, Msr.KernelGsBase, Msr.SysenterCs,
        Msr.SysenterEsp, Msr.SysenterEip, Msr.Pat, Msr.KvmSystemTime, Msr.KvmWallClock,
    ];
}
