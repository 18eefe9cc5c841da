using Tutti.Cpu;

namespace Tutti.Machine;

/// <summary>Takes the chipset lock around a local APIC, which other devices reach from other threads.</summary>
internal sealed class LockedLocalApic(ILocalApic apic, Lock chipset) : ILocalApic
{
    public ulong ApicBase
    {
        get
        {
            lock (chipset)
            {
                return apic.ApicBase;
            }
        }
    }

    public byte TaskPriority
    {
        get
        {
            lock (chipset)
            {
                return apic.TaskPriority;
            }
        }

        set
        {
            lock (chipset)
            {
                apic.TaskPriority = value;
            }
        }
    }

    public long TscOffset
    {
        get
        {
            lock (chipset)
            {
                return apic.TscOffset;
            }
        }

        set
        {
            lock (chipset)
            {
                apic.TscOffset = value;
            }
        }
    }

    public bool TryWriteApicBase(ulong value)
    {
        lock (chipset)
        {
            return apic.TryWriteApicBase(value);
        }
    }

    public void ReadMmio(uint offset, Span<byte> data)
    {
        lock (chipset)
        {
            apic.ReadMmio(offset, data);
        }
    }

    public void WriteMmio(uint offset, ReadOnlySpan<byte> data)
    {
        lock (chipset)
        {
            apic.WriteMmio(offset, data);
        }
    }

    public bool TryReadMsr(uint msr, out ulong value)
    {
        lock (chipset)
        {
            return apic.TryReadMsr(msr, out value);
        }
    }

    public bool TryWriteMsr(uint msr, ulong value)
    {
        lock (chipset)
        {
            return apic.TryWriteMsr(msr, value);
        }
    }

    public int AcknowledgeInterrupt()
    {
        lock (chipset)
        {
            return apic.AcknowledgeInterrupt();
        }
    }

    public void Initialize()
    {
        lock (chipset)
        {
            apic.Initialize();
        }
    }
}
