using Tutti.Guests;

namespace Tutti.Guest.Tests;

/// <summary>Kernels other than the image's, each to its shell: 32-bit ones with either form of page tables, and the one for hardware.</summary>
[Collection("guests")]
public class OtherKernelTests
{
    /// <summary>The kernel's tests of its own ciphers take longer than the rest of its start.</summary>
    private const string NoCipherTests = "cryptomgr.notests";

    /// <summary>Calls, signals, pipes and floating point, with an answer that depends on all of it.</summary>
    private const string Work =
        """
        n=0; s=0; trap 'n=$((n+1))' USR1; i=0; while [ $i -lt 20 ]; do (exit $((i % 7))); s=$((s + $?)); kill -USR1 $$; i=$((i+1)); done; seq 1 100 | sort -rn | awk '{ t += 1.5 / $1 - $1 / 7 } END { printf "%.6f ", t }'; echo "$s $n"
        """;

    [PackageFact(nameof(PackageFile.Kernel686), nameof(PackageFile.BusyBox386))]
    public void A_32_bit_kernel_without_PAE_runs_32_bit_programs()
    {
        string log = RunWork(PackageFile.Kernel686.Path, UserlandFor32Bit(), "i686");
        Assert.Contains("non-PAE kernel", log, StringComparison.Ordinal);
    }

    [PackageFact(nameof(PackageFile.Kernel686Pae), nameof(PackageFile.BusyBox386))]
    public void A_32_bit_kernel_with_PAE_runs_32_bit_programs()
    {
        string log = RunWork(PackageFile.Kernel686Pae.Path, UserlandFor32Bit(), "i686");
        Assert.Contains("NX (Execute Disable) protection: active", log, StringComparison.Ordinal);
    }

    [PackageFact(nameof(PackageFile.StockKernel), nameof(PackageFile.BusyBox386))]
    public void The_kernel_for_hardware_runs_32_bit_programs()
    {
        RunWork(PackageFile.StockKernel.Path, UserlandFor32Bit(), "x86_64");
    }

    [DebianFact]
    public async Task The_unpacked_kernel_starts_at_its_PVH_entry()
    {
        GuestImage image = await new ImageCatalog().GetAsync(ImageCatalog.DefaultImage);
        byte[]? vmlinux = CompressedKernel.TryExtract(await File.ReadAllBytesAsync(image.KernelPath));
        Assert.True(vmlinux is not null, "Debian no longer compresses this kernel with LZ4: teach the test the new format.");
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        await File.WriteAllBytesAsync(path, vmlinux);
        try
        {
            RunWork(path, image.InitrdPath, "x86_64");
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static string RunWork(string kernel, string initrd, string machine)
    {
        using var guest = new GuestSession("--kernel", kernel, "--initrd", initrd, "--append", NoCipherTests);
        guest.ExpectShell();
        Assert.Equal(machine, guest.Run("uname -m"));
        double expected = Enumerable.Range(1, 100).Sum(i => (1.5 / i) - (i / 7.0));
        Assert.Equal(FormattableString.Invariant($"{expected:F6} {Enumerable.Range(0, 20).Sum(i => i % 7)} 20"), guest.Run(Work.Trim()));
        string log = guest.Run("dmesg");
        Assert.Contains("Linux version", log, StringComparison.Ordinal);
        Assert.Empty(GuestSession.Complaints(log));
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
        return log;
    }

    /// <summary>The image's userland around a 32-bit BusyBox, so that every program of it is a 32-bit one.</summary>
    private static string UserlandFor32Bit()
    {
        string path = Path.ChangeExtension(PackageFile.BusyBox386.Path, ".initrd");
        using FileStream file = File.Create(path);
        BusyBoxInitramfs.Write(file, File.ReadAllBytes(PackageFile.BusyBox386.Path));
        return path;
    }
}
