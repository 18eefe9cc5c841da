using System.Buffers.Binary;
using static Tutti.Devices.InterruptControllers.ApicRegisters;

namespace Tutti.Devices.InterruptControllers;

/// <content>The register file: the xAPIC page and the x2APIC MSRs.</content>
public sealed partial class LocalApic
{
    private uint X2ApicLdr => ((_id >> 4) << 16) | (1u << (int)(_id & 0xF));

    public void ReadMmio(uint offset, Span<byte> data)
    {
        if (!IsHardwareEnabled || IsX2Apic)
        {
            data.Fill(0xFF);
            return;
        }

        for (int i = 0; i < data.Length; i++)
        {
            // A register has 32 bits at the start of 16 bytes; the rest reads as zero.
            uint at = offset + (uint)i;
            int shift = (int)(at & 0xF) * 8;
            data[i] = shift < 32 ? (byte)(ReadRegister(at & 0xFF0) >> shift) : (byte)0;
        }
    }

    public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
    {
        // Only whole registers may be written (SDM: "must be accessed using aligned 32-bit loads and stores").
        if (IsHardwareEnabled && !IsX2Apic && data.Length >= 4 && (offset & 0xF) == 0)
        {
            WriteRegister(offset & 0xFF0, BinaryPrimitives.ReadUInt32LittleEndian(data));
        }
    }

    public bool TryReadMsr(uint msr, out ulong value)
    {
        value = 0;
        if (msr == TscDeadlineMsr)
        {
            _timer.Settle();
            value = _timer.TscDeadline;
            return true;
        }

        if (!IsX2Apic || msr is < X2ApicFirstMsr or > X2ApicLastMsr)
        {
            return false;
        }

        uint offset = (msr - X2ApicFirstMsr) << 4;
        switch (offset)
        {
            case IcrLow:
                value = ((ulong)_icrHigh << 32) | _icrLow;
                return true;
            case Apr or Rrd or Dfr or Eoi or IcrHigh or SelfIpi:
                return false;
            default:
                value = ReadRegister(offset);
                return IsRegister(offset);
        }
    }

    public bool TryWriteMsr(uint msr, ulong value)
    {
        if (msr == TscDeadlineMsr)
        {
            _timer.TscDeadline = value;
            return true;
        }

        if (!IsX2Apic || msr is < X2ApicFirstMsr or > X2ApicLastMsr)
        {
            return false;
        }

        uint offset = (msr - X2ApicFirstMsr) << 4;
        if (((value & X2ApicReserved(offset)) != 0) || !IsX2ApicWritable(offset))
        {
            return false;
        }

        switch (offset)
        {
            case IcrLow:
                _icrHigh = (uint)(value >> 32);
                WriteIcrLow((uint)value);
                break;
            case SelfIpi:
                SendIpi((uint)value | (1u << IcrShorthandShift));
                break;
            default:
                WriteRegister(offset, (uint)value);
                break;
        }

        return true;
    }

    private static bool IsRegister(uint offset) => offset
        is ApicId or ApicVersion or Tpr or Apr or Ppr or Eoi or Rrd or Ldr or Dfr or Svr
        or (>= Isr and <= Esr)
        or (>= IcrLow and <= CurrentCount)
        or DivideConfiguration;

    private static bool IsX2ApicWritable(uint offset) => offset
        is Tpr or Eoi or Svr or Esr or IcrLow or (>= LvtTimer and <= InitialCount) or DivideConfiguration or SelfIpi;

    private static ulong X2ApicReserved(uint offset) => offset switch
    {
        Tpr or SelfIpi => ~0xFFUL,
        Eoi or Esr => ulong.MaxValue,
        Svr => ~(ulong)SvrWritable,
        IcrLow => IcrX2Reserved,
        InitialCount => ~(ulong)uint.MaxValue,
        DivideConfiguration => ~0b1011UL,

        // Delivery status and remote IRR are read-only, not reserved: a guest may write back what it read.
        >= LvtTimer and <= LvtError => ~(LvtWritable[LvtIndex(offset)] | IcrDeliveryStatus | (ulong)LvtRemoteIrr),
        _ => 0,
    };

    private static int LvtIndex(uint offset) => (int)((offset - LvtTimer) >> 4);

    private uint ReadRegister(uint offset)
    {
        switch (offset)
        {
            case ApicId:
                return IsX2Apic ? _id : _id << 24;
            case ApicVersion:
                return VersionValue;
            case Tpr:
                return _tpr;
            case Apr or Ppr:
                return ProcessorPriority;
            case Ldr:
                return _ldr;
            case Dfr:
                return _dfr;
            case Svr:
                return _svr;
            case >= Isr and < Tmr:
                return _isr.Word((int)(offset - Isr) >> 4);
            case >= Tmr and < Irr:
                return _tmr.Word((int)(offset - Tmr) >> 4);
            case >= Irr and < Esr:
                return _irr.Word((int)(offset - Irr) >> 4);
            case Esr:
                return _esr;
            case IcrLow:
                return _icrLow;
            case IcrHigh:
                return _icrHigh;
            case >= LvtTimer and <= LvtError:
                return _lvt[LvtIndex(offset)];
            case InitialCount:
                return _timer.InitialCount;
            case CurrentCount:
                // Who sees the count at its end finds the interrupt, too.
                _timer.Settle();
                return _timer.CurrentCount;
            case DivideConfiguration:
                return _timer.DivideConfiguration;
            default:
                if (!IsRegister(offset) && !IsX2Apic)
                {
                    RaiseError(EsrIllegalRegister);
                }

                return 0;
        }
    }

    private void WriteRegister(uint offset, uint value)
    {
        switch (offset)
        {
            case Tpr:
                SetTpr((byte)value);
                break;
            case Eoi:
                EndOfInterrupt();
                break;
            case Ldr:
                _ldr = value & 0xFF00_0000;
                break;
            case Dfr:
                _dfr = value | 0x0FFF_FFFF;
                break;
            case Svr:
                WriteSvr(value);
                break;
            case Esr:
                _esr = _pendingErrors;
                _pendingErrors = 0;
                break;
            case IcrLow:
                WriteIcrLow(value);
                break;
            case IcrHigh:
                _icrHigh = value & 0xFF00_0000;
                break;
            case >= LvtTimer and <= LvtError:
                WriteLvt(LvtIndex(offset), value);
                break;
            case InitialCount:
                _timer.InitialCount = value;
                break;
            case DivideConfiguration:
                _timer.DivideConfiguration = value;
                break;
            default:
                if (!IsRegister(offset))
                {
                    RaiseError(EsrIllegalRegister);
                }

                break;
        }
    }

    private void SetTpr(byte value)
    {
        _tpr = value;
        Evaluate();
    }

    private void WriteSvr(uint value)
    {
        _timer.Settle();
        _svr = value & SvrWritable;
        if (!IsSoftwareEnabled)
        {
            for (int i = 0; i < _lvt.Length; i++)
            {
                _lvt[i] |= LvtMasked;
            }
        }

        Evaluate();
    }

    private void WriteLvt(int index, uint value)
    {
        // An interrupt that is due goes by the entry that was there.
        _timer.Settle();
        uint entry = (value & LvtWritable[index]) | (_lvt[index] & LvtRemoteIrr);
        if (!IsSoftwareEnabled)
        {
            entry |= LvtMasked;
        }

        bool wasMasked = (_lvt[index] & LvtMasked) != 0;
        _lvt[index] = entry;
        if (index == TimerEntry)
        {
            _timer.Mode = (byte)((entry >> LvtTimerModeShift) & 3);
        }
        else if (index == Lint0Entry)
        {
            bool fixedLevel = ModeOf(entry) == DeliveryMode.Fixed && (entry & LvtLevel) != 0;
            if (!fixedLevel)
            {
                _lvt[index] &= ~LvtRemoteIrr;
            }
            else if (_lint0 && wasMasked)
            {
                DeliverLocal(index);
            }

            Evaluate();
        }
    }

    private void WriteIcrLow(uint value)
    {
        _icrLow = value & IcrWritable;
        SendIpi(_icrLow);
    }

    private void SendIpi(uint icr)
    {
        ApicMessage message = new((byte)icr, ModeOf(icr), Level: false, Assert: (icr & (IcrAssert | IcrLevel)) != IcrLevel);
        if (message.Mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority && message.Vector < FirstLegalVector)
        {
            RaiseError(EsrSendIllegalVector);
            return;
        }

        // A processor cannot send SMI-less reserved modes or act for the 8259: such IPIs go nowhere.
        if (message.Mode is DeliveryMode.Smi or DeliveryMode.Reserved or DeliveryMode.ExtInt)
        {
            return;
        }

        switch ((icr >> IcrShorthandShift) & 3)
        {
            case 0:
                SendToDestination(message, (icr & IcrLogical) != 0);
                break;
            case 1:
                if (message.Mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority)
                {
                    AcceptFixed(message.Vector, level: false);
                }

                break;
            case 2:
                _bus.SendToAll(message, except: null);
                break;
            case 3:
                _bus.SendToAll(message, except: this);
                break;
        }
    }

    private void SendToDestination(ApicMessage message, bool logical)
    {
        if (IsX2Apic)
        {
            _bus.Send(message, _icrHigh, logical);
        }
        else
        {
            _bus.SendShort(message, (byte)(_icrHigh >> 24), logical);
        }
    }
}
