using Tutti.Boot;
using Tutti.Cpu;
using Tutti.Devices.Block;
using Tutti.Guests.Disks;
using Tutti.Guests.Disks.Loaders;
using Tutti.Host;
using Tutti.Machine;
using Tutti.Memory;

namespace Tutti.Cli;

/// <summary>Where a guest's kernel comes from. It is fetched anew at power-on and at each reset.</summary>
internal abstract class GuestKernel : IDisposable
{
    /// <summary>What firmware does: loads the kernel into memory.</summary>
    /// <param name="memory">The guest's.</param>
    /// <param name="append">Words behind the command line that the kernel comes with.</param>
    /// <param name="processorCount">vCPUs.</param>
    /// <exception cref="BootException">The kernel cannot be used.</exception>
    /// <exception cref="Guests.ImageException">The disk has none.</exception>
    /// <exception cref="OperationCanceledException">The user, or <c>--timeout</c>, has ended the run meanwhile.</exception>
    internal abstract ProcessorRegisters Load(GuestMemory memory, string append, int processorCount);

    public virtual void Dispose()
    {
    }

    private protected static ProcessorRegisters Load(
        GuestMemory memory, ReadOnlyMemory<byte> kernel, ReadOnlyMemory<byte> initrd, string commandLine, int processorCount) =>
        MachineOptions.BootLinux(new BootOptions
        {
            Kernel = kernel,
            Initrd = initrd,
            CommandLine = commandLine.Trim(),
            ProcessorCount = processorCount,
        })(memory);
}

/// <summary>A kernel from files: an image's or the user's own.</summary>
/// <param name="kernel">The kernel.</param>
/// <param name="initrds">Parts of the initial RAM disk, which the guest's kernel unpacks one after the other; none for no RAM disk.</param>
/// <param name="commandLine">What the kernel is started with.</param>
internal sealed class KernelFiles(InputFile kernel, IReadOnlyList<InputFile> initrds, string commandLine) : GuestKernel
{
    /// <summary>The kernel looks for the next archive at a multiple of this.</summary>
    private const int Alignment = 4;

    internal override ProcessorRegisters Load(GuestMemory memory, string append, int processorCount)
    {
        ReadOnlyMemory<byte> image = kernel.Read(out HostBuffer? kernelBuffer);
        using (kernelBuffer)
        {
            // A unified kernel image brings words and a RAM disk. Ours come behind: of consoles, the last is the one that programs write to.
            UnifiedKernel? unified = UnifiedKernel.TryRead(image);
            ReadOnlyMemory<byte> initrd = ReadInitrds(unified?.Initrds ?? [], out HostBuffer? initrdBuffer);
            using (initrdBuffer)
            {
                return Load(memory, unified?.Kernel ?? image, initrd, $"{unified?.CommandLine} {commandLine} {append}", processorCount);
            }
        }
    }

    public override void Dispose()
    {
        kernel.Dispose();
        foreach (InputFile initrd in initrds)
        {
            initrd.Dispose();
        }
    }

    /// <param name="first">RAM disks that the kernel brings.</param>
    /// <param name="buffer">What holds the bytes; null where they stay.</param>
    private ReadOnlyMemory<byte> ReadInitrds(IReadOnlyList<ReadOnlyMemory<byte>> first, out HostBuffer? buffer)
    {
        buffer = null;
        if (first.Count + initrds.Count <= 1)
        {
            return first.Count == 1 ? first[0] : initrds.Count == 0 ? default : initrds[0].Read(out buffer);
        }

        int length = 0;
        foreach (ReadOnlyMemory<byte> part in first)
        {
            length = checked(Align(length) + part.Length);
        }

        foreach (InputFile initrd in initrds)
        {
            length = Align(length) + initrd.Length;
        }

        buffer = new HostBuffer(length);
        try
        {
            int position = 0;
            foreach (ReadOnlyMemory<byte> part in first)
            {
                position = Align(position);
                part.Span.CopyTo(buffer.GetSpan().Slice(position, part.Length));
                position += part.Length;
            }

            foreach (InputFile initrd in initrds)
            {
                position = Align(position);
                initrd.ReadTo(buffer.GetSpan().Slice(position, initrd.Length));
                position += initrd.Length;
            }
        }
        catch
        {
            ((IDisposable)buffer).Dispose();
            throw;
        }

        return buffer.Memory;
    }

    private static int Align(int position) => (position + (Alignment - 1)) & ~(Alignment - 1);
}

/// <summary>The kernel that a disk's own boot loader would start: the guest may have put a new one there before it reboots.</summary>
/// <param name="disk">Stays its owner's.</param>
/// <param name="words">Behind the disk's own command line.</param>
/// <param name="bootEntry">The entry of its boot loader's menu; null for that one's own choice.</param>
/// <param name="cancellation">Ends a look that takes too long for the user.</param>
internal sealed class KernelOnDisk(IBlockBackend disk, string words, string? bootEntry, CancellationToken cancellation) : GuestKernel
{
    internal override ProcessorRegisters Load(GuestMemory memory, string append, int processorCount)
    {
        using BlockBackendReader reader = new(disk, cancellation);
        DiskKernel found = DiskKernel.Find(reader, new ReadBudget((long)memory.Size, cancellation), append, bootEntry);
        return Load(memory, found.Kernel, found.Initrd, $"{found.CommandLine}{words} {append}", processorCount);
    }
}
