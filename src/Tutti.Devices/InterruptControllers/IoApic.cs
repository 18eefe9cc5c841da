using System.Buffers.Binary;
using static Tutti.Devices.InterruptControllers.IoApicRegisters;

namespace Tutti.Devices.InterruptControllers;

/// <summary>State of the I/O APIC; 24 redirection entries, pins as a bit field.</summary>
public sealed record IoApicState(byte Id, byte Select, uint Pins, ulong[] Redirections);

/// <summary>
/// The I/O APIC: 24 pins, each with a redirection entry. Pins are driven by their logical value, so polarity changes
/// nothing. An edge on a masked pin is lost. Source: Intel 82093AA data sheet (290566).
/// </summary>
public sealed class IoApic : IMmioDevice, IStatefulDevice<IoApicState>
{
    private readonly ApicBus _bus;
    private readonly ulong[] _redirections = new ulong[PinCount];
    private byte _id;
    private byte _select;
    private uint _pins;

    public IoApic(ApicBus bus, byte id = 0)
    {
        _bus = bus;
        _id = (byte)(id & 0xF);
        Array.Fill(_redirections, Masked);
        bus.Attach(this);
    }

    /// <summary>Drives a pin, 0 to 23.</summary>
    public void SetPin(int pin, bool asserted)
    {
        uint bit = 1u << pin;
        bool rose = asserted && (_pins & bit) == 0;
        _pins = asserted ? _pins | bit : _pins & ~bit;
        if (rose)
        {
            Service(pin);
        }
    }

    internal void EndOfInterrupt(byte vector)
    {
        for (int pin = 0; pin < PinCount; pin++)
        {
            ulong entry = _redirections[pin];
            if ((byte)entry == vector && (entry & (RemoteIrr | Level)) == (RemoteIrr | Level))
            {
                _redirections[pin] = entry & ~RemoteIrr;
                ServiceLevel(pin);
            }
        }
    }

    public IoResult ReadMmio(ulong offset, Span<byte> data)
    {
        uint value = (offset & ~3UL) switch
        {
            IoRegSel => _select,
            IoWin => ReadRegister(),
            _ => 0,
        };
        value >>= (int)(offset & 3) * 8;
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = i < 4 ? (byte)(value >> (i * 8)) : (byte)0;
        }

        return IoResult.Ok;
    }

    public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
    {
        if (offset == IoRegSel)
        {
            _select = data[0];
        }
        else if (offset == IoWin && data.Length >= 4)
        {
            WriteRegister(BinaryPrimitives.ReadUInt32LittleEndian(data));
        }
        else if (offset == Eoir)
        {
            EndOfInterrupt(data[0]);
        }

        return IoResult.Ok;
    }

    private uint ReadRegister()
    {
        switch (_select)
        {
            case IoApicId or IoApicArb:
                return (uint)_id << 24;
            case IoApicVer:
                return VersionValue;
            default:
                int index = _select - FirstRedirection;
                return index is < 0 or >= PinCount * 2 ? 0 : (uint)(_redirections[index >> 1] >> ((index & 1) * 32));
        }
    }

    private void WriteRegister(uint value)
    {
        if (_select == IoApicId)
        {
            _id = (byte)((value >> 24) & 0xF);
            return;
        }

        int index = _select - FirstRedirection;
        if (index is < 0 or >= PinCount * 2)
        {
            return;
        }

        int pin = index >> 1;
        int shift = (index & 1) * 32;
        ulong old = _redirections[pin];
        ulong merged = (old & ~(0xFFFF_FFFFUL << shift)) | ((ulong)value << shift);
        ulong entry = (merged & WritableBits) | (old & RemoteIrr);
        if ((entry & Level) == 0)
        {
            // Guests that have no EOI register switch a stuck pin to edge and back to clear its remote IRR.
            entry &= ~RemoteIrr;
        }

        _redirections[pin] = entry;
        ServiceLevel(pin);
    }

    private void ServiceLevel(int pin)
    {
        if ((_redirections[pin] & Level) != 0 && (_pins & (1u << pin)) != 0)
        {
            Service(pin);
        }
    }

    private void Service(int pin)
    {
        ulong entry = _redirections[pin];
        if ((entry & (Masked | RemoteIrr)) != 0)
        {
            return;
        }

        DeliveryMode mode = (DeliveryMode)((entry >> 8) & 7);

        // Only fixed and lowest-priority interrupts are ever acknowledged, so only they wait for an EOI.
        bool level = (entry & Level) != 0 && mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority;
        if (level)
        {
            _redirections[pin] |= RemoteIrr;
        }

        _bus.SendShort(new ApicMessage((byte)entry, mode, level), (byte)(entry >> 56), (entry & Logical) != 0);
    }

    public IoApicState Save() => new(_id, _select, _pins, (ulong[])_redirections.Clone());

    /// <exception cref="ArgumentException">Not 24 redirection entries.</exception>
    public void Restore(IoApicState state)
    {
        if (state.Redirections.Length != PinCount)
        {
            throw new ArgumentException("An I/O APIC has 24 redirection entries.", nameof(state));
        }

        _id = (byte)(state.Id & 0xF);
        _select = state.Select;
        _pins = state.Pins & ((1u << PinCount) - 1);
        state.Redirections.CopyTo(_redirections, 0);
    }
}
