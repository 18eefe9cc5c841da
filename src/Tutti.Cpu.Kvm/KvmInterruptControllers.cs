using Tutti.Host;
using static Tutti.Cpu.Kvm.KvmCalls;
using static Tutti.Cpu.Kvm.KvmIoctl;

namespace Tutti.Cpu.Kvm;

/// <summary>
/// The kernel's 8259s, I/O APIC, local APICs and 8254, and the table of what reaches them: lines by number (GSI), and
/// messages by a number that an eventfd can be tied to. Source: Linux Documentation/virt/kvm/api.rst.
/// </summary>
public sealed unsafe class KvmInterruptControllers : IInterruptControllers
{
    private const int LineCount = 24;
    private const int CascadeIrq = 2;
    private const uint TimerPin = 2;

    private readonly FileDescriptor _vm;
    private readonly Lock _routeLock = new();
    private readonly SortedDictionary<uint, KvmIrqRoutingEntry> _messages = [];

    internal KvmInterruptControllers(FileDescriptor vm)
    {
        _vm = vm;
        _ = Call(vm, nameof(KVM_CREATE_IRQCHIP), KVM_CREATE_IRQCHIP);
        SetRoutes();
        KvmPitConfig pit = new() { Flags = KvmPitConfig.KVM_PIT_SPEAKER_DUMMY };
        _ = Call(vm, nameof(KVM_CREATE_PIT2), KVM_CREATE_PIT2, &pit);
    }

    public void SetLine(int irq, bool asserted)
    {
        if (irq is < 0 or >= LineCount or CascadeIrq)
        {
            throw new ArgumentOutOfRangeException(nameof(irq), irq, "Lines are 0 to 23 without 2.");
        }

        KvmIrqLevel level = new() { Irq = (uint)irq, Level = asserted ? 1u : 0u };
        CallUnlessGone(nameof(KVM_IRQ_LINE), KVM_IRQ_LINE, &level);
    }

    public void SignalMsi(ulong address, uint data)
    {
        KvmMsi msi = new() { AddressLo = (uint)address, AddressHi = (uint)(address >> 32), Data = data };
        try
        {
            CallUnlessGone(nameof(KVM_SIGNAL_MSI), KVM_SIGNAL_MSI, &msi);
        }
        catch (HostException e) when (e.Errno == EPERM)
        {
            // The -1 by which KVM says that no local APIC has the address, which a guest may well have written.
        }
    }

    public IInterruptMessage CreateMessage() => new KvmInterruptMessage(this);

    /// <summary>Gives a message a number (GSI), 24 or more, that <see cref="Attach"/> can tie an eventfd to.</summary>
    public int AddMessageRoute(ulong address, uint data)
    {
        lock (_routeLock)
        {
            uint gsi = LineCount;
            while (_messages.ContainsKey(gsi))
            {
                gsi++;
            }

            _messages.Add(gsi, Message(gsi, address, data));
            try
            {
                SetRoutes();
            }
            catch
            {
                _ = _messages.Remove(gsi);
                throw;
            }

            return (int)gsi;
        }
    }

    /// <summary>Changes the message behind a number, as when a guest reprograms its MSI-X table.</summary>
    /// <exception cref="ArgumentException">The number is none of <see cref="AddMessageRoute"/>.</exception>
    public void ChangeMessageRoute(int gsi, ulong address, uint data)
    {
        lock (_routeLock)
        {
            RequireMessage(gsi);
            _messages[(uint)gsi] = Message((uint)gsi, address, data);
            SetRoutes();
        }
    }

    /// <summary>Gives a number back. Detach its eventfd first.</summary>
    /// <exception cref="ArgumentException">The number is none of <see cref="AddMessageRoute"/>.</exception>
    public void RemoveMessageRoute(int gsi)
    {
        lock (_routeLock)
        {
            RequireMessage(gsi);
            _ = _messages.Remove((uint)gsi);
            SetRoutes();
        }
    }

    /// <summary>Lets each signal of an eventfd raise an interrupt, with no thread of ours between (irqfd).</summary>
    /// <param name="gsi">A line, or a number of <see cref="AddMessageRoute"/>.</param>
    /// <param name="source">Signalled to raise it: a line is pulsed, or held where <paramref name="resample"/> is given.</param>
    /// <param name="resample">For level lines: signalled by the kernel when the guest has ended the interrupt and the line fell.</param>
    public void Attach(int gsi, EventFd source, EventFd? resample = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        KvmIrqfd argument = new() { Fd = (uint)source.Descriptor.Number, Gsi = (uint)gsi };
        if (resample != null)
        {
            argument.Flags = KvmIrqfd.KVM_IRQFD_FLAG_RESAMPLE;
            argument.Resamplefd = (uint)resample.Descriptor.Number;
        }

        _ = Call(_vm, nameof(KVM_IRQFD), KVM_IRQFD, &argument);
    }

    /// <summary>Undoes <see cref="Attach"/>; afterwards no signal of the eventfd raises an interrupt any more.</summary>
    public void Detach(int gsi, EventFd source)
    {
        ArgumentNullException.ThrowIfNull(source);
        KvmIrqfd argument = new() { Fd = (uint)source.Descriptor.Number, Gsi = (uint)gsi, Flags = KvmIrqfd.KVM_IRQFD_FLAG_DEASSIGN };
        _ = Call(_vm, nameof(KVM_IRQFD), KVM_IRQFD, &argument);
    }

    private static KvmIrqRoutingEntry Message(uint gsi, ulong address, uint data) => new()
    {
        Gsi = gsi,
        Type = KvmIrqRoutingEntry.KVM_IRQ_ROUTING_MSI,
        AddressLo = (uint)address,
        AddressHi = (uint)(address >> 32),
        Data = data,
    };

    private static KvmIrqRoutingEntry Pin(uint gsi, uint irqchip, uint pin) => new()
    {
        Gsi = gsi,
        Type = KvmIrqRoutingEntry.KVM_IRQ_ROUTING_IRQCHIP,
        Irqchip = irqchip,
        Pin = pin,
    };

    /// <summary>A PC's wiring. The kernel's own table ties IRQ 0 to pin 0, where the machine's ACPI tables say pin 2.</summary>
    private static IEnumerable<KvmIrqRoutingEntry> Lines()
    {
        for (uint irq = 0; irq < LineCount; irq++)
        {
            if (irq == CascadeIrq)
            {
                continue;
            }

            if (irq < 16)
            {
                yield return Pin(irq, irq < 8 ? KvmIrqRoutingEntry.KVM_IRQCHIP_PIC_MASTER : KvmIrqRoutingEntry.KVM_IRQCHIP_PIC_SLAVE, irq & 7);
            }

            yield return Pin(irq, KvmIrqRoutingEntry.KVM_IRQCHIP_IOAPIC, irq == 0 ? TimerPin : irq);
        }
    }

    private void SetRoutes()
    {
        KvmIrqRoutingEntry[] routes = [.. Lines(), .. _messages.Values];
        byte[] buffer = new byte[8 + (routes.Length * sizeof(KvmIrqRoutingEntry))];
        // SAFETY: the buffer is a kvm_irq_routing with as many entries as its first word says.
        fixed (byte* table = buffer)
        {
            *(int*)table = routes.Length;
            routes.CopyTo(new Span<KvmIrqRoutingEntry>(table + 8, routes.Length));
            _ = Call(_vm, nameof(KVM_SET_GSI_ROUTING), KVM_SET_GSI_ROUTING, table);
        }
    }

    private void RequireMessage(int gsi)
    {
        if (!_messages.ContainsKey((uint)gsi))
        {
            throw new ArgumentException($"There is no message route {gsi}.", nameof(gsi));
        }
    }

    /// <summary>Devices outlive their partition for a moment when a machine is reset or ends: what they raise then goes nowhere.</summary>
    private void CallUnlessGone(string name, uint request, void* argument)
    {
        try
        {
            _ = Call(_vm, name, request, argument);
        }
        catch (ObjectDisposedException)
        {
            // Nobody is left to be interrupted.
        }
    }
}
