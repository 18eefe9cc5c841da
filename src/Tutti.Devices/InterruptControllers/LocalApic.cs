using Tutti.Cpu;
using static Tutti.Devices.InterruptControllers.ApicRegisters;

namespace Tutti.Devices.InterruptControllers;

/// <summary>
/// The local APIC of one vCPU, in xAPIC and x2APIC mode. Called under the chipset lock.
/// Source: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
/// </summary>
public sealed partial class LocalApic : ILocalApic, IStatefulDevice<LocalApicState>
{
    private const int TimerEntry = 0;
    private const int Lint0Entry = 3;
    private const int Lint1Entry = 4;
    private const int ErrorEntry = 5;

    private readonly ApicBus _bus;
    private readonly IProcessorSignals _signals;
    private readonly ApicTimer _timer;
    private readonly ulong _baseReserved;
    private readonly VectorSet _isr = new();
    private readonly VectorSet _tmr = new();
    private readonly VectorSet _irr = new();
    private readonly uint[] _lvt = new uint[6];
    private uint _id;
    private ulong _apicBase;
    private byte _tpr;
    private uint _ldr;
    private uint _dfr;
    private uint _svr;
    private uint _esr;
    private uint _pendingErrors;
    private uint _icrLow;
    private uint _icrHigh;
    private bool _lint0;
    private bool _lint1;
    private bool _extIntMessage;

    /// <param name="id">The APIC ID: 0 to 254, or any below 0xFFFFFFFF when the guest uses x2APIC mode.</param>
    /// <param name="isBootstrap">Whether this is the processor that starts the machine.</param>
    /// <param name="physicalAddressBits">MAXPHYADDR of the processor; higher bits in IA32_APIC_BASE are #GP.</param>
    public LocalApic(uint id, ApicBus bus, IGuestClock clock, IProcessorSignals signals, bool isBootstrap, int physicalAddressBits = 46)
    {
        _id = id;
        _bus = bus;
        _signals = signals;
        _timer = new ApicTimer(clock, () => DeliverLocal(TimerEntry));
        _baseReserved = ~((1UL << physicalAddressBits) - 1) | 0x2FF;
        _apicBase = DefaultBase | BaseEnable | (isBootstrap ? BaseBootstrap : 0);
        Initialize();
        bus.Attach(this);
    }

    public uint Id => _id;

    public ulong ApicBase => _apicBase;

    /// <summary>What the time-stamp counter of the vCPU is ahead of guest nanoseconds; moves a TSC deadline that is armed.</summary>
    public long TscOffset
    {
        get => _timer.TscOffset;
        set => _timer.TscOffset = value;
    }

    public byte TaskPriority
    {
        get => (byte)(_tpr >> 4);
        set => SetTpr((byte)(value << 4));
    }

    /// <summary>Bits 7:0 of the PPR: what a pending vector's class must exceed to be delivered.</summary>
    internal byte ProcessorPriority
    {
        get
        {
            int serviced = _isr.Highest();
            return serviced >= 0 && (serviced >> 4) > (_tpr >> 4) ? (byte)(serviced & 0xF0) : _tpr;
        }
    }

    internal bool AcceptsFixed => IsHardwareEnabled && IsSoftwareEnabled;

    private bool IsHardwareEnabled => (_apicBase & BaseEnable) != 0;

    private bool IsX2Apic => (_apicBase & BaseX2Apic) != 0;

    private bool IsSoftwareEnabled => (_svr & SvrEnable) != 0;

    // A PC's INTR goes around an APIC that is switched off, straight to the processor.
    private bool ExternalInterruptPending => _extIntMessage
        || (_lint0 && (!IsHardwareEnabled
            || ((_lvt[Lint0Entry] & LvtMasked) == 0 && ModeOf(_lvt[Lint0Entry]) == DeliveryMode.ExtInt)));

    public void Initialize()
    {
        _tpr = 0;
        _ldr = IsX2Apic ? X2ApicLdr : 0;
        _dfr = uint.MaxValue;
        _svr = 0xFF;
        _isr.Clear();
        _tmr.Clear();
        _irr.Clear();
        _esr = 0;
        _pendingErrors = 0;
        _icrLow = 0;
        _icrHigh = 0;
        _extIntMessage = false;
        Array.Fill(_lvt, LvtMasked);
        _timer.Reset();
    }

    /// <summary>
    /// What firmware leaves in the bootstrap processor's APIC: enabled, LINT0 takes the 8259's interrupts and LINT1 the
    /// NMI ("virtual wire mode" of the MultiProcessor Specification 1.4, 3.6.2.2).
    /// </summary>
    public void EnableVirtualWireMode()
    {
        _svr = SvrEnable | 0xFF;
        _lvt[Lint0Entry] = LvtLevel | ((uint)DeliveryMode.ExtInt << 8);
        _lvt[Lint1Entry] = (uint)DeliveryMode.Nmi << 8;
        Evaluate();
    }

    public bool TryWriteApicBase(ulong value)
    {
        bool enable = (value & BaseEnable) != 0;
        bool x2Apic = (value & BaseX2Apic) != 0;
        bool illegalMode = x2Apic ? !enable || !IsHardwareEnabled : enable && IsX2Apic;
        if ((value & _baseReserved) != 0 || illegalMode)
        {
            return false;
        }

        bool wasX2Apic = IsX2Apic;
        bool wasEnabled = IsHardwareEnabled;
        _apicBase = value;
        if (wasEnabled != enable)
        {
            Initialize();
        }
        else if (x2Apic && !wasX2Apic)
        {
            _ldr = X2ApicLdr;
            _icrHigh = 0;
        }

        Evaluate();
        return true;
    }

    public int AcknowledgeInterrupt()
    {
        int vector = TakeInterrupt();
        Evaluate();
        return vector;
    }

    private int TakeInterrupt()
    {
        if (ExternalInterruptPending && _bus.ExternalInterrupts is { } source)
        {
            _extIntMessage = false;
            return source.Acknowledge();
        }

        int vector = DeliverableVector();
        if (vector >= 0)
        {
            _irr.Set(vector, false);
            _isr.Set(vector, true);
        }

        return vector;
    }

    private int DeliverableVector()
    {
        int vector = IsHardwareEnabled ? _irr.Highest() : -1;
        return vector >= 0 && (vector >> 4) > (ProcessorPriority >> 4) ? vector : -1;
    }

    // Signals too often rather than too seldom: the vCPU asks again, and a missed signal would leave it halted for good.
    private void Evaluate()
    {
        if (ExternalInterruptPending || DeliverableVector() >= 0)
        {
            _signals.SignalInterrupt();
        }
    }

    internal bool Matches(uint destination, bool logical)
    {
        if (!IsHardwareEnabled)
        {
            return false;
        }

        if (destination == Broadcast)
        {
            return true;
        }

        if (!logical)
        {
            return destination == (IsX2Apic ? _id : _id & 0xFF);
        }

        if (IsX2Apic)
        {
            return destination >> 16 == _ldr >> 16 && (destination & _ldr & 0xFFFF) != 0;
        }

        uint own = _ldr >> 24;
        if (destination > 0xFF)
        {
            return false;
        }

        bool isFlat = _dfr >> 28 == 0xF;
        return isFlat
            ? (destination & own) != 0
            : (destination >> 4 == 0xF || destination >> 4 == own >> 4) && (destination & own & 0xF) != 0;
    }

    internal void Accept(ApicMessage message)
    {
        switch (message.Mode)
        {
            case DeliveryMode.Fixed:
            case DeliveryMode.LowestPriority:
                AcceptFixed(message.Vector, message.Level);
                break;
            case DeliveryMode.Nmi:
                _signals.SignalNmi();
                break;
            case DeliveryMode.Init:
                // INIT level de-assert only set arbitration IDs, on processors long gone.
                if (message.Assert)
                {
                    _signals.SignalInit();
                }

                break;
            case DeliveryMode.Startup:
                _signals.SignalStartup(message.Vector);
                break;
            case DeliveryMode.ExtInt:
                _extIntMessage = true;
                Evaluate();
                break;
        }
    }

    internal void SetLint0(bool asserted)
    {
        bool rose = asserted && !_lint0;
        _lint0 = asserted;
        uint entry = _lvt[Lint0Entry];
        if (ModeOf(entry) == DeliveryMode.ExtInt || !IsHardwareEnabled)
        {
            Evaluate();
        }
        else if (rose)
        {
            DeliverLocal(Lint0Entry);
        }
    }

    internal void SetLint1(bool asserted)
    {
        bool rose = asserted && !_lint1;
        _lint1 = asserted;
        if (!rose)
        {
            return;
        }

        if (IsHardwareEnabled)
        {
            DeliverLocal(Lint1Entry);
        }
        else
        {
            _signals.SignalNmi();
        }
    }

    private void AcceptFixed(int vector, bool level)
    {
        if (!AcceptsFixed)
        {
            return;
        }

        if (vector < FirstLegalVector)
        {
            RaiseError(EsrReceivedIllegalVector);
            return;
        }

        _irr.Set(vector, true);
        _tmr.Set(vector, level);
        Evaluate();
    }

    private void DeliverLocal(int index)
    {
        uint entry = _lvt[index];
        if ((entry & LvtMasked) != 0 || !IsHardwareEnabled)
        {
            return;
        }

        // Timer and error entries have no mode field; their bits 10:8 are zero, which is Fixed.
        DeliveryMode mode = ModeOf(entry);
        bool level = index == Lint0Entry && mode == DeliveryMode.Fixed && (entry & LvtLevel) != 0;
        if (level)
        {
            if ((entry & LvtRemoteIrr) != 0)
            {
                return;
            }

            _lvt[index] |= LvtRemoteIrr;
        }

        if (mode is DeliveryMode.Fixed or DeliveryMode.Nmi or DeliveryMode.Init or DeliveryMode.ExtInt)
        {
            Accept(new ApicMessage((byte)entry, mode, level));
        }
    }

    private void EndOfInterrupt()
    {
        int vector = _isr.Highest();
        if (vector < 0)
        {
            return;
        }

        _isr.Set(vector, false);
        if (_tmr.Contains(vector))
        {
            uint lint0 = _lvt[Lint0Entry];
            if ((lint0 & LvtRemoteIrr) != 0 && (lint0 & 0xFF) == vector)
            {
                _lvt[Lint0Entry] &= ~LvtRemoteIrr;
                if (_lint0)
                {
                    DeliverLocal(Lint0Entry);
                }
            }

            _bus.BroadcastEoi((byte)vector);
        }

        Evaluate();
    }

    private void RaiseError(uint error)
    {
        _pendingErrors |= error;
        uint entry = _lvt[ErrorEntry];

        // An error entry with an illegal vector would report itself for ever.
        if ((entry & LvtMasked) == 0 && (entry & 0xFF) >= FirstLegalVector)
        {
            AcceptFixed((byte)entry, level: false);
        }
    }

    private static DeliveryMode ModeOf(uint entry) => (DeliveryMode)((entry >> 8) & 7);

    public LocalApicState Save() => new()
    {
        Id = _id,
        ApicBase = _apicBase,
        Tpr = _tpr,
        Ldr = _ldr,
        Dfr = _dfr,
        Svr = _svr,
        Isr = _isr.Save(),
        Tmr = _tmr.Save(),
        Irr = _irr.Save(),
        Esr = _esr,
        PendingErrors = _pendingErrors,
        IcrLow = _icrLow,
        IcrHigh = _icrHigh,
        Lvt = (uint[])_lvt.Clone(),
        Lint0 = _lint0,
        Lint1 = _lint1,
        ExtIntMessage = _extIntMessage,
        Timer = _timer.Save(),
    };

    /// <exception cref="ArgumentException">The state has vector registers or an LVT of another length.</exception>
    public void Restore(LocalApicState state)
    {
        if (state.Lvt.Length != _lvt.Length)
        {
            throw new ArgumentException("A local APIC has 6 LVT entries.", nameof(state));
        }

        _isr.Restore(state.Isr);
        _tmr.Restore(state.Tmr);
        _irr.Restore(state.Irr);
        state.Lvt.CopyTo(_lvt, 0);
        _id = state.Id;
        _apicBase = state.ApicBase;
        _tpr = state.Tpr;
        _ldr = state.Ldr;
        _dfr = state.Dfr;
        _svr = state.Svr;
        _esr = state.Esr;
        _pendingErrors = state.PendingErrors;
        _icrLow = state.IcrLow;
        _icrHigh = state.IcrHigh;
        _lint0 = state.Lint0;
        _lint1 = state.Lint1;
        _extIntMessage = state.ExtIntMessage;
        _timer.Restore(state.Timer);
        Evaluate();
    }
}
