namespace Tutti.Guests.Disks.Loaders;

/// <summary>What a unified kernel image holds: a kernel and all that it is started with.</summary>
/// <param name="Kernel">As it would be in a file of its own.</param>
/// <param name="Initrds">Initial RAM disks, in the order of loading.</param>
/// <param name="CommandLine">Empty where the image has none.</param>
public sealed record UnifiedKernel(ReadOnlyMemory<byte> Kernel, IReadOnlyList<ReadOnlyMemory<byte>> Initrds, string CommandLine)
{
    /// <summary>The parts, which stay the file's bytes; null for a file that is no such image.</summary>
    /// <param name="file">All of it.</param>
    public static UnifiedKernel? TryRead(ReadOnlyMemory<byte> file) =>
        UnifiedKernelImage.TryRead(file.Span, file.Length) is { } image
            ? new UnifiedKernel(Part(file, image.Kernel), [.. image.Initrds.Select(section => Part(file, section))], image.Text(".cmdline", file.Span))
            : null;

    private static ReadOnlyMemory<byte> Part(ReadOnlyMemory<byte> file, PeSection section) => file.Slice(section.Offset, section.Length);
}
