using Tutti.Cpu;
using Tutti.Devices.Block;
using Tutti.Devices.Network;
using Tutti.Devices.Pci;
using Tutti.Machine;
using Tutti.Network;
using Tutti.Network.Tap;
using Tutti.Storage;
using Tutti.Storage.Files;
using Tutti.Virtio;
using Tutti.Virtio.Block;
using Tutti.Virtio.Console;
using Tutti.Virtio.Entropy;
using Tutti.Virtio.Network;
using Tutti.Virtio.Pci;
using Tutti.Workers;

namespace Tutti.Cli;

/// <summary>
/// What a guest has on its PCI bus, and what of the host is behind it. Disks and networks are opened once and stay through resets; each
/// new board gets new devices in front of them.
/// </summary>
internal sealed class GuestDevices : IDisposable
{
    /// <summary>The card's address where the user gives none: one of those that QEMU took for its virtual cards, as every guest is alone in its user network.</summary>
    private static readonly MacAddress CustomaryMac = new(0x52_54_00_12_34_56);

    private readonly Action<Exception> _onFailure;
    private readonly List<Disk> _disks = [];
    private readonly List<IDisposable> _backends = [];
    private readonly List<Func<BoardServices, PciFunction>> _functions = [];
    private UserNetwork? _user;

    /// <param name="onFailure">Told, on any thread, what went wrong that should not have; the machine is to end.</param>
    internal GuestDevices(Action<Exception> onFailure) => _onFailure = onFailure;

    /// <summary>Makes the functions of a board, in the order of their slots.</summary>
    internal IReadOnlyList<Func<BoardServices, PciFunction>> Functions => _functions;

    /// <summary>The first disk, which the guest boots from; null without disks.</summary>
    internal IBlockBackend? BootDisk => _disks.Count > 0 ? _disks[0].Backend : null;

    /// <summary>Adds a virtio-blk disk.</summary>
    /// <exception cref="UserException">It cannot be opened.</exception>
    internal void AddDisk(DiskOptions options)
    {
        Disk disk;
        try
        {
            disk = Disk.Open(options, new StorageNotices(Notices.Write));
        }
        catch (DiskException e)
        {
            throw new UserException(e.Message);
        }

        _disks.Add(disk);
        Add(() => new VirtioBlock(disk.Backend, disk.Worker, options.Serial ?? string.Empty, options.QueueCount));
    }

    /// <summary>Adds a virtio-net card that is plugged into a network.</summary>
    /// <exception cref="UserException">The network can't be had.</exception>
    internal void AddNetwork(NetworkSpec spec)
    {
        if (spec.Kind == NetworkKind.None)
        {
            return;
        }

        INetworkBackend network;
        MacAddress mac = CustomaryMac;
        try
        {
            if (spec.Kind == NetworkKind.Tap)
            {
                TapNetwork tap = new(spec, _onFailure, Notices.Write);
                _backends.Add(tap);
                network = tap;
                mac = new MacAddress(TapAddress.For(spec.TapName));
            }
            else
            {
                UserNetwork user = new(spec, _onFailure, Notices.Write);
                _backends.Add(user);
                _user = user;
                network = user;
            }
        }
        catch (NetworkException e)
        {
            throw new UserException(e.Message);
        }

        mac = spec.Mac is ulong address ? new MacAddress(address) : mac;
        Add(() => new VirtioNet(network, mac));
    }

    /// <summary>Adds a virtio-rng device with the host's random numbers.</summary>
    internal void AddEntropy()
    {
        EventLoop loop = new("entropy", _onFailure);
        _backends.Add(loop);
        _functions.Add(services => new VirtioPciFunction(
            new VirtioRng(new HostEntropy(), loop, services.Clock), services.Memory, services.Doorbells, services.ChipsetLock));
    }

    /// <summary>Adds a virtio console, and tells the cable to it, which is the caller's to end.</summary>
    internal VirtioConsoleCable AddConsole(IConsoleBackend terminal)
    {
        EventLoop loop = new("console", _onFailure);
        _backends.Add(loop);
        VirtioConsoleCable cable = new(terminal, _onFailure);
        _functions.Add(services =>
        {
            VirtioConsole console = new(cable, loop, services.Clock);
            cable.Connect(console);
            return new VirtioPciFunction(console, services.Memory, services.Doorbells, services.ChipsetLock);
        });
        return cable;
    }

    /// <summary>What devices' backends have counted.</summary>
    internal IEnumerable<EngineCounter> ReadCounters() =>
        _user?.ReadCounters().Select(counter => new EngineCounter("network", counter.Name, counter.Value, counter.Unit)) ?? [];

    /// <summary>Closes everything, after the machine's end.</summary>
    public void Dispose()
    {
        foreach (IDisposable backend in _backends)
        {
            backend.Dispose();
        }

        foreach (Disk disk in _disks)
        {
            disk.Dispose();
        }
    }

    private void Add(Func<VirtioDevice> create) =>
        _functions.Add(services => new VirtioPciFunction(create(), services.Memory, services.Doorbells, services.ChipsetLock));
}
