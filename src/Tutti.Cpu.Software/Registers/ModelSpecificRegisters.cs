using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// RDMSR and WRMSR. What is listed neither here nor in <see cref="PlainRegisters"/> raises #GP(0). Sources: see <see cref="Msr"/>.
/// </summary>
public sealed unsafe class ModelSpecificRegisters
{
    private const ulong EferWritable = Efer.SyscallEnable | Efer.LongModeEnable | Efer.NoExecuteEnable | Efer.AutomaticIbrsEnable;

    internal const ulong PhysicalMask = (1UL << SoftwareCpuid.PhysicalBits) - 1;

    private readonly CpuState* _state;
    private readonly IGuestClock _clock;
    private readonly ILocalApic _lapic;
    private readonly Tlb _tlb;
    private readonly GuestPresence _presence;
    private readonly OperatingMode _mode;
    private readonly ControlRegisters _control;
    private readonly PlainRegisters _plain;
    private readonly TimeStampCounter _tsc;
    private readonly ParavirtualClock _paravirtual;

    private static readonly uint[] ExportedMsrs =
    [
        Msr.Tsc, Msr.TscAux, Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Sfmask, Msr.KernelGsBase, Msr.SysenterCs,
        Msr.SysenterEsp, Msr.SysenterEip, Msr.Pat, Msr.KvmSystemTime, Msr.KvmWallClock,
    ];

    internal ModelSpecificRegisters(
        CpuState* state, IGuestClock clock, ILocalApic lapic, Tlb tlb, GuestPresence presence, OperatingMode mode, ControlRegisters control,
        PlainRegisters plain, TimeStampCounter tsc, ParavirtualClock paravirtual)
    {
        _state = state;
        _clock = clock;
        _lapic = lapic;
        _tlb = tlb;
        _presence = presence;
        _mode = mode;
        _control = control;
        _plain = plain;
        _tsc = tsc;
        _paravirtual = paravirtual;
    }

    /// <summary>RDMSR; false means #GP(0).</summary>
    public bool TryReadMsr(uint number, out ulong value)
    {
        if (number is Msr.TscDeadline or (>= Msr.X2ApicFirst and <= Msr.X2ApicLast))
        {
            _presence.Leave();
            bool isApicRegister = _lapic.TryReadMsr(number, out value);
            _presence.Reenter();
            return isApicRegister;
        }

        ulong? known = number switch
        {
            Msr.FsBase => _state->Fs.Base,
            Msr.GsBase => _state->Gs.Base,
            Msr.KernelGsBase => _state->KernelGsBase,
            Msr.Tsc => _tsc.Read(),
            Msr.TscAux => _state->TscAux,
            Msr.Efer => _state->Efer,
            Msr.Star => _state->Star,
            Msr.Lstar => _state->Lstar,
            Msr.Cstar => _state->Cstar,
            Msr.Sfmask => _state->Sfmask,
            Msr.SysenterCs => _state->SysenterCs,
            Msr.SysenterEsp => _state->SysenterEsp,
            Msr.SysenterEip => _state->SysenterEip,
            Msr.Pat => _state->Pat,
            Msr.ApicBase => _lapic.ApicBase,
            // Eight variable ranges, fixed ranges, write-combining.
            Msr.MtrrCap => 0x508,
            // A revision that no microcode file beats.
            Msr.PatchLevel => 0x0FFF_FFFF,
            Msr.KvmSystemTime or Msr.KvmSystemTimeOld => _paravirtual.SystemTime,
            Msr.KvmWallClock or Msr.KvmWallClockOld => _paravirtual.WallClock,
            _ => null,
        };
        value = known.GetValueOrDefault();
        return known is not null || _plain.TryRead(number, out value);
    }

    /// <summary>WRMSR; false means #GP(0). EFER needs the caller to leave its block.</summary>
    public bool TryWriteMsr(uint number, ulong value)
    {
        switch (number)
        {
            case Msr.TscDeadline or (>= Msr.X2ApicFirst and <= Msr.X2ApicLast):
                _presence.Leave();
                bool written = _lapic.TryWriteMsr(number, value);
                _presence.Reenter();
                return written;
            case Msr.FsBase:
                return TrySetCanonical(ref _state->Fs.Base, value);
            case Msr.GsBase:
                return TrySetCanonical(ref _state->Gs.Base, value);
            case Msr.KernelGsBase:
                return TrySetCanonical(ref _state->KernelGsBase, value);
            case Msr.Lstar:
                return TrySetCanonical(ref _state->Lstar, value);
            case Msr.Cstar:
                return TrySetCanonical(ref _state->Cstar, value);
            case Msr.SysenterEsp:
                return TrySetCanonical(ref _state->SysenterEsp, value);
            case Msr.SysenterEip:
                return TrySetCanonical(ref _state->SysenterEip, value);
            case Msr.SysenterCs:
                _state->SysenterCs = (uint)value;
                return true;
            case Msr.Star:
                _state->Star = value;
                return true;
            case Msr.Sfmask:
                _state->Sfmask = (uint)value;
                return true;
            case Msr.TscAux:
                if (value > uint.MaxValue)
                {
                    return false;
                }

                _state->TscAux = value;
                return true;
            case Msr.Tsc:
                _tsc.SetOffset((long)value - _clock.Nanoseconds);
                _paravirtual.Refresh();
                return true;
            case Msr.Efer:
                return TryWriteEfer(value);
            case Msr.Pat:
                return TryWritePat(value);
            case Msr.ApicBase:
                return (value & ~PhysicalMask) == 0 && _lapic.TryWriteApicBase(value);
            case Msr.PatchLevel:
                return true;
            case Msr.KvmSystemTime or Msr.KvmSystemTimeOld:
                _paravirtual.SystemTime = value;
                return true;
            case Msr.KvmWallClock or Msr.KvmWallClockOld:
                _paravirtual.WallClock = value;
                return true;
            default:
                return _plain.TryWrite(number, value);
        }
    }

    private bool TrySetCanonical(ref ulong register, ulong value)
    {
        if (!_control.IsLoadable(value))
        {
            return false;
        }

        register = value;
        return true;
    }

    private bool TryWriteEfer(ulong value)
    {
        // LMA is read-only; a write of it is ignored.
        value = (value & ~Efer.LongModeActive) | (_state->Efer & Efer.LongModeActive);
        bool changesLongMode = ((value ^ _state->Efer) & Efer.LongModeEnable) != 0;
        if ((value & ~(EferWritable | Efer.LongModeActive)) != 0 || (changesLongMode && (_state->Cr0 & Cr0.Paging) != 0))
        {
            return false;
        }

        if (((value ^ _state->Efer) & Efer.NoExecuteEnable) != 0)
        {
            _tlb.Flush();
        }

        _state->Efer = value;
        _mode.Update();
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

        _state->Pat = value;
        return true;
    }

    internal void Reset()
    {
        _plain.Reset();
        _paravirtual.Reset();
    }

    internal void Export(Dictionary<uint, ulong> registers)
    {
        _plain.Export(registers);
        foreach (uint number in ExportedMsrs)
        {
            TryReadMsr(number, out ulong value);
            registers[number] = value;
        }
    }

    /// <summary>Takes over what the state names; registers that it does not name keep their values, unknown ones are left out.</summary>
    internal void Import(Dictionary<uint, ulong> registers)
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
}
