using System.Text;

namespace Tutti.Boot.Tests;

public class KernelFormatTests
{
    [Fact]
    public void Bootable_files_are_told_apart()
    {
        Assert.Equal(KernelFormat.BzImage, KernelFormatDetector.Detect(KernelFiles.BzImage()));
        Assert.Equal(KernelFormat.Elf, KernelFormatDetector.Detect(KernelFiles.Vmlinux()));
    }

    [Theory]
    [InlineData(3, 1, "i386")]
    [InlineData(183, 1, "arm64")]
    [InlineData(243, 1, "RISC-V")]
    [InlineData(22, 2, "s390x")]
    [InlineData(999, 1, "999")]
    public void An_elf_file_for_another_processor_is_named(int machine, byte endian, string name)
    {
        byte[] file = KernelFiles.Vmlinux();
        file[5] = endian;
        (file[18], file[19]) = endian == 2 ? ((byte)(machine >> 8), (byte)machine) : ((byte)machine, (byte)(machine >> 8));
        Assert.Contains(name, Refusal(file), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(56, "ARMd", "arm64")]
    [InlineData(48, "RISCV", "RISC-V")]
    [InlineData(0, "\u001F\u008B", "gunzip")]
    [InlineData(0, "\u0028\u00B5\u002F\u00FD", "unzstd")]
    [InlineData(0, "\u00FD7zXZ\0", "unxz")]
    [InlineData(0, "!<arch>\n", "Debian package")]
    [InlineData(0, "070701", "--initrd")]
    [InlineData(0, "#!/bin/sh", "not a Linux kernel")]
    public void A_file_that_people_take_for_a_kernel_is_named(int offset, string magic, string expected)
    {
        byte[] file = new byte[4096];
        Encoding.Latin1.GetBytes(magic).CopyTo(file, offset);
        Assert.Contains(expected, Refusal(file), StringComparison.Ordinal);
    }

    [Fact]
    public void Empty_and_short_files_are_told_from_others()
    {
        Assert.Contains("empty", Refusal([]), StringComparison.Ordinal);
        Assert.Contains("only 12 bytes", Refusal(new byte[12]), StringComparison.Ordinal);
        Assert.Contains("truncated", Refusal(KernelFiles.Vmlinux()[..20]), StringComparison.Ordinal);
    }

    private static string Refusal(byte[] file)
    {
        string message = Assert.Throws<BootException>(() => KernelFormatDetector.Detect(file)).Message;
        Assert.DoesNotContain('\n', message);
        Assert.EndsWith(".", message, StringComparison.Ordinal);
        return message;
    }
}
