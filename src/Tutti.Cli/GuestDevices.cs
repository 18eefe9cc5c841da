using Tutti.Devices.Block;
using Tutti.Devices.Pci;
using Tutti.Machine;
using Tutti.Storage;
using Tutti.Storage.Files;
using Tutti.Virtio;
using Tutti.Virtio.Block;
using Tutti.Virtio.Pci;

namespace Tutti.Cli;

/// <summary>
/// What a guest has on its PCI bus, and what of the host is behind it. Disks and networks are opened once and stay through resets; each
/// new board gets new devices in front of them.
/// </summary>
internal sealed class GuestDevices : IDisposable
{
    private readonly List<Disk> _disks = [];
    private readonly List<Func<BoardServices, PciFunction>> _functions = [];

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

    /// <summary>Closes everything, after the machine's end.</summary>
    public void Dispose()
    {
        foreach (Disk disk in _disks)
        {
            disk.Dispose();
        }
    }

    private void Add(Func<VirtioDevice> create) =>
        _functions.Add(services => new VirtioPciFunction(create(), services.Memory, services.Doorbells, services.ChipsetLock));
}
