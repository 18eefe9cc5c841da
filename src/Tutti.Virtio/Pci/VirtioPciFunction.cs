using System.Buffers.Binary;
using System.Numerics;
using Tutti.Devices;
using Tutti.Devices.Pci;
using Tutti.Memory;
using static Tutti.Virtio.Pci.VirtioPciLayout;

namespace Tutti.Virtio.Pci;

/// <summary>State of the transport and its device; that of configuration space and MSI-X table is the function's own.</summary>
public sealed record VirtioPciState(
    uint DeviceFeatureSelect,
    uint DriverFeatureSelect,
    ushort QueueSelect,
    ushort ConfigVector,
    ushort[] QueueVectors,
    byte Isr,
    VirtioDeviceState Device);

/// <summary>
/// A virtio device as a function of a PCI bus, as drivers of version 1 and later know it. All calls but <see cref="PciFunction.Dispose"/>
/// are made under the chipset lock. Source: Virtual I/O Device 1.2, 4.1.
/// </summary>
public sealed class VirtioPciFunction : PciFunction, IVirtioTransport, IStatefulDevice<VirtioPciState>
{
    private readonly VirtioDevice _device;
    private readonly IDoorbellMap _doorbells;
    private readonly Lock _chipset;
    private readonly MsixTable _msix;
    private readonly CommonConfig _common;
    private readonly int _windowOffset;
    private ulong? _address;

    // Where the doorbells are attached; null for nowhere.
    private ulong? _doorbellAddress;
    private byte _isr;

    /// <param name="device">Belongs to the function from now on.</param>
    /// <param name="memory">The guest's RAM.</param>
    /// <param name="doorbells">Where the queues' doorbells are tied to the driver's writes.</param>
    /// <param name="chipset">The chipset lock, which the worker takes to drive INTx.</param>
    public VirtioPciFunction(VirtioDevice device, GuestMemory memory, IDoorbellMap doorbells, Lock chipset)
        : base(IdentityOf(device))
    {
        ArgumentNullException.ThrowIfNull(doorbells);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(device.QueueCount, MaxQueues, nameof(device));
        (_device, _doorbells, _chipset) = (device, doorbells, chipset);
        AddStructure(TypeCommon, CommonOffset, CommonSize);
        AddStructure(TypeNotify, NotifyOffset, NotifyMultiplier * device.QueueCount, NotifyMultiplier);
        AddStructure(TypeIsr, IsrOffset, 1);
        if (device.ConfigLength != 0)
        {
            AddStructure(TypeDevice, DeviceOffset, device.ConfigLength);
        }

        _windowOffset = AddWindow();

        // One vector for the configuration, one for each queue.
        int vectors = device.QueueCount + 1;
        uint half = Math.Max(0x800, BitOperations.RoundUpToPowerOf2((uint)vectors * 16));
        _msix = AddMsix(vectors, MsixBar, 0, half);
        _common = new CommonConfig(device, _msix);
        AddBar(RegisterBar, PciBarKind.Memory64, RegisterBarSize, new Registers(this));
        AddBar(MsixBar, PciBarKind.Memory32, half * 2, new Vectors(_msix, half));
        device.Attach(memory, this);
    }

    /// <summary>The device behind the transport.</summary>
    public VirtioDevice Device => _device;

    public override void Reset()
    {
        _device.WriteStatus(0);
        _common.Reset();
        SetIsr(0);
        UpdateDoorbells();
        base.Reset();
    }

    public override void Dispose()
    {
        _device.Dispose();
        base.Dispose();
    }

    public VirtioPciState Save() => _common.Save(_isr);

    /// <summary>
    /// Takes a state over, after <see cref="PciFunction.RestoreConfiguration"/>, and goes on with the work that was under way: it may
    /// interrupt the guest, and reads and writes its memory, from now on.
    /// </summary>
    /// <exception cref="ArgumentException">The state is another kind of device's, or can't be one with this memory.</exception>
    public void Restore(VirtioPciState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        _common.Restore(state);
        SetIsr(state.Isr);
        _device.Restore(state.Device);
        UpdateDoorbells();
    }

    void IVirtioTransport.SignalQueue(int queue)
    {
        if (IsMsixEnabled)
        {
            _msix.Signal(_common.QueueVector(queue));
        }
        else
        {
            SignalLine(IsrQueue);
        }
    }

    void IVirtioTransport.SignalConfig()
    {
        if (IsMsixEnabled)
        {
            _msix.Signal(_common.ConfigVector);
        }
        else
        {
            SignalLine(IsrConfig);
        }
    }

    protected override void OnBarMapped(int bar, ulong? address)
    {
        if (bar == RegisterBar)
        {
            _address = address;
            UpdateDoorbells();
        }
    }

    // VIRTIO_PCI_CAP_PCI_CFG: an access of the data behind the capability is one of the registers that it points to.
    protected override bool TryReadConfig(int offset, Span<byte> data)
    {
        int at = _windowOffset + 2 + CapExtra;
        if (offset == at && TryGetWindow(out int target, out int length))
        {
            ReadRegisters(target, Configuration.Slice(at, length));
        }

        return false;
    }

    protected override bool TryWriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        int at = _windowOffset + 2 + CapExtra;
        if (offset != at || data.Length > sizeof(uint))
        {
            return false;
        }

        data.CopyTo(Configuration[at..]);
        if (TryGetWindow(out int target, out int length))
        {
            WriteRegisters(target, Configuration.Slice(at, length));
        }

        return true;
    }

    private static PciIdentity IdentityOf(VirtioDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        (byte baseClass, byte subClass) = device.Id switch
        {
            VirtioDeviceId.Network => ((byte)0x02, (byte)0x00),
            VirtioDeviceId.Block => ((byte)0x01, (byte)0x00),
            VirtioDeviceId.Console => ((byte)0x07, (byte)0x80),
            _ => ((byte)0xFF, (byte)0x00),
        };
        return new PciIdentity(VendorId, (ushort)(FirstDeviceId + (int)device.Id), baseClass, subClass, 0, Revision, VendorId, SubsystemId);
    }

    private void AddStructure(byte type, int offset, int length, uint? extra = null)
    {
        Span<byte> body = stackalloc byte[CapSizeWithExtra];
        body.Clear();
        int size = extra == null ? CapSize : CapSizeWithExtra;
        body[CapLength] = (byte)(2 + size);
        body[CapType] = type;
        body[CapBar] = RegisterBar;
        BinaryPrimitives.WriteUInt32LittleEndian(body[CapOffset..], (uint)offset);
        BinaryPrimitives.WriteUInt32LittleEndian(body[CapStructureLength..], (uint)length);
        BinaryPrimitives.WriteUInt32LittleEndian(body[CapExtra..], extra ?? 0);
        _ = AddCapability(VendorCapability, body[..size]);
    }

    private int AddWindow()
    {
        Span<byte> body = stackalloc byte[CapSizeWithExtra];
        Span<byte> writable = stackalloc byte[CapSizeWithExtra];
        body.Clear();
        writable.Clear();
        body[CapLength] = 2 + CapSizeWithExtra;
        body[CapType] = TypePciCfg;
        writable[CapBar] = 0xFF;
        writable[CapOffset..].Fill(0xFF);
        return AddCapability(VendorCapability, body, writable);
    }

    private bool TryGetWindow(out int offset, out int length)
    {
        ReadOnlySpan<byte> body = Configuration.Slice(_windowOffset + 2, CapSizeWithExtra);
        uint at = BinaryPrimitives.ReadUInt32LittleEndian(body[CapOffset..]);
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(body[CapStructureLength..]);
        (offset, length) = (0, 0);
        if (body[CapBar] != RegisterBar || count is not (1 or 2 or 4) || (at & (count - 1)) != 0 || at > RegisterBarSize - count)
        {
            return false;
        }

        (offset, length) = ((int)at, (int)count);
        return true;
    }

    private void ReadRegisters(int offset, Span<byte> data)
    {
        int within = offset & (StructureSize - 1);
        switch (offset - within)
        {
            case CommonOffset:
                _common.Read(within, data);
                break;
            case DeviceOffset:
                _device.ReadDeviceConfig(within, data);
                break;
            case IsrOffset when within == 0:
                data.Clear();
                data[0] = _isr;
                SetIsr(0);
                break;
            default:
                data.Clear();
                break;
        }
    }

    private void WriteRegisters(int offset, ReadOnlySpan<byte> data)
    {
        int within = offset & (StructureSize - 1);
        switch (offset - within)
        {
            case CommonOffset:
                _common.Write(within, data);
                if (within == DeviceStatus)
                {
                    if (data[0] == 0)
                    {
                        SetIsr(0);
                    }

                    UpdateDoorbells();
                }

                break;
            case DeviceOffset:
                _device.WriteDeviceConfig(within, data);
                break;
            case NotifyOffset when within % NotifyMultiplier == 0 && _device.IsLive:
                _device.Doorbell(within / NotifyMultiplier)?.Ring();
                break;
        }
    }

    /// <summary>Ties the doorbells to where the driver rings them now. What is tied nowhere comes to the registers.</summary>
    private void UpdateDoorbells()
    {
        ulong? wanted = _device.IsLive && _address is ulong address ? address + NotifyOffset : null;
        if (wanted == _doorbellAddress)
        {
            return;
        }

        for (int i = 0; i < _device.QueueCount; i++)
        {
            if (_device.TiedDoorbell(i) is not IDoorbell doorbell)
            {
                continue;
            }

            if (_doorbellAddress is ulong old)
            {
                _doorbells.Detach(old + (ulong)(i * NotifyMultiplier), doorbell);
            }

            if (wanted is ulong next)
            {
                _doorbells.Attach(next + (ulong)(i * NotifyMultiplier), doorbell);
            }
        }

        _doorbellAddress = wanted;
    }

    private void SignalLine(byte cause)
    {
        lock (_chipset)
        {
            // After a reset, which is under this lock too, what was on its way is of no interest.
            if (_device.HasDriver)
            {
                SetIsr((byte)(_isr | cause));
            }
        }
    }

    private void SetIsr(byte value)
    {
        _isr = value;
        SetInterruptLine(value != 0);
    }

    private sealed class Registers(VirtioPciFunction function) : IMmioDevice
    {
        public IoResult ReadMmio(ulong offset, Span<byte> data)
        {
            function.ReadRegisters((int)offset, data);
            return IoResult.Ok;
        }

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
        {
            function.WriteRegisters((int)offset, data);
            return IoResult.Ok;
        }
    }

    private sealed class Vectors(MsixTable msix, uint pba) : IMmioDevice
    {
        public IoResult ReadMmio(ulong offset, Span<byte> data)
        {
            if (offset < pba)
            {
                msix.ReadTable(offset, data);
            }
            else
            {
                msix.ReadPba(offset - pba, data);
            }

            return IoResult.Ok;
        }

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data)
        {
            if (offset < pba)
            {
                msix.WriteTable(offset, data);
            }

            return IoResult.Ok;
        }
    }
}
