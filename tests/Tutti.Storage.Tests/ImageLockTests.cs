using System.Diagnostics;
using Tutti.Storage.Files;

namespace Tutti.Storage.Tests;

public sealed class ImageLockTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _path;

    public ImageLockTests() => _path = _folder.File("disk.img", new byte[1 << 20]);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void One_writer_or_many_readers()
    {
        using (BlockFile reader = BlockFile.Open(_path, isReadOnly: true))
        using (BlockFile other = BlockFile.Open(_path, isReadOnly: true))
        {
            Assert.Contains("is in use by another virtual machine", Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: false)).Message, StringComparison.Ordinal);
        }

        using (BlockFile writer = BlockFile.Open(_path, isReadOnly: false))
        {
            Assert.Contains("is in use", Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: false)).Message, StringComparison.Ordinal);
            Assert.Contains("is being written", Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: true)).Message, StringComparison.Ordinal);
            BlockFile.Open(_path, isReadOnly: true, ImageLocking.None).Dispose();
        }

        BlockFile.Open(_path, isReadOnly: false).Dispose();
    }

    /// <summary>With qcow2 images: QEMU's readers of a raw file let others write it.</summary>
    [QemuFact]
    public void Qemu_refuses_what_Tutti_writes_and_shares_what_it_reads()
    {
        Assert.Equal(0, QemuImage.Run("qemu-img", "create", "-q", "-f", "qcow2", _path, "1M").Status);
        using (BlockFile.Open(_path, isReadOnly: false))
        {
            Assert.Contains("lock", QemuImage.Run("qemu-img", "info", "-f", "qcow2", _path).Error, StringComparison.Ordinal);
            Assert.Contains("lock", QemuImage.Run("qemu-io", "-f", "qcow2", "-c", "write 0 512", _path).Error, StringComparison.Ordinal);
        }

        using (BlockFile.Open(_path, isReadOnly: true))
        {
            Assert.Equal(0, QemuImage.Run("qemu-img", "info", "-f", "qcow2", _path).Status);
            Assert.Contains("lock", QemuImage.Run("qemu-io", "-f", "qcow2", "-c", "write 0 512", _path).Error, StringComparison.Ordinal);
        }

        Assert.Equal(0, QemuImage.Run("qemu-io", "-f", "qcow2", "-c", "write 0 512", _path).Status);
    }

    [QemuFact]
    public void Tutti_refuses_what_Qemu_writes_and_shares_what_it_reads()
    {
        Assert.Equal(0, QemuImage.Run("qemu-img", "create", "-q", "-f", "qcow2", _path, "1M").Status);
        using (Process qemu = Hold("-f", "qcow2", _path))
        {
            Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: true));
            Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: false));
            Assert.Throws<DiskException>(() => ImageFiles.Resize(_path, size => size * 2));
            End(qemu);
        }

        using (Process qemu = Hold("-r", "-f", "qcow2", _path))
        {
            BlockFile.Open(_path, isReadOnly: true).Dispose();
            Assert.Throws<DiskException>(() => BlockFile.Open(_path, isReadOnly: false));
            End(qemu);
        }

        BlockFile.Open(_path, isReadOnly: false).Dispose();
    }

    /// <summary>Starts qemu-io, which keeps the image open until its input ends.</summary>
    private static Process Hold(params string[] args)
    {
        Process qemu = QemuImage.Start("qemu-io", args);
        qemu.StandardInput.WriteLine("length");
        qemu.StandardInput.Flush();
        // The answer says that the image is open.
        string answer = string.Empty;
        while (!answer.Contains("MiB", StringComparison.Ordinal))
        {
            answer = qemu.StandardOutput.ReadLine() ?? throw new InvalidOperationException(qemu.StandardError.ReadToEnd());
        }

        return qemu;
    }

    private static void End(Process qemu)
    {
        qemu.StandardInput.Close();
        Assert.True(qemu.WaitForExit(30_000));
    }
}
