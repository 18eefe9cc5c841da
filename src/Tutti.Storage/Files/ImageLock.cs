using Tutti.Host;

namespace Tutti.Storage.Files;

/// <summary>Whether an image is locked against other programs.</summary>
public enum ImageLocking
{
    /// <summary>One writer, or any number of readers.</summary>
    Lock,

    /// <summary>Not at all: to look at an image that may be in use.</summary>
    None,
}

/// <summary>
/// The lock of an image in use: one writer, or any number of readers. It is made of single bytes as QEMU makes it, so that its programs and Tutti
/// keep out of each other's way: byte 100+n is locked by who uses permission n (0: consistent reads, 1: writes, 3: a change of size), byte 200+n by who
/// does not let others use it. All locks are shared ones; a conflict is found by looking for the other byte. They belong to the
/// opening of the file, and go with it, whatever ends the process.
/// </summary>
/// <remarks>Source: QEMU's docs/system/images.rst and the observed behaviour of qemu-img; fcntl(2), open file description locks.</remarks>
internal sealed class ImageLock : IDisposable
{
    private const long UsedBase = 100;
    private const long RefusedBase = 200;
    private const int ConsistentRead = 1 << 0;
    private const int Write = 1 << 1;
    private const int Resize = 1 << 3;
    private const int PermissionCount = 4;

    private readonly HostFile _file;
    private readonly int _used;
    private readonly int _refused;

    private ImageLock(HostFile file, int used, int refused)
    {
        _file = file;
        _used = used;
        _refused = refused;
    }

    /// <summary>Locks an image.</summary>
    /// <returns>Null where the file system has no such locks, which the notices tell.</returns>
    /// <exception cref="DiskException">Another program uses it.</exception>
    internal static ImageLock? Take(HostFile file, bool isWriter, StorageNotices notices)
    {
        int used = isWriter ? ConsistentRead | Write | Resize : ConsistentRead;
        // Readers refuse writers, and writers other writers; a reader and a writer find each other by that.
        ImageLock made = new(file, used, Write | Resize);
        int error = made.Lock();
        switch (error)
        {
            case 0:
                return made;
            case Errno.EAGAIN or Errno.EACCES:
                made.Dispose();
                throw new DiskException(isWriter
                    ? $"disk '{file.Path}' is in use by another virtual machine or program; end that first, or add overlay if it is only read there"
                    : $"disk '{file.Path}' is being written by another virtual machine or program; end that first");
            default:
                made.Dispose();
                notices.Report(file.Path, $"its file system has no locks ({Errno.Describe(error)}); make sure that nothing else uses it");
                return null;
        }
    }

    public void Dispose()
    {
        for (int i = 0; i < PermissionCount; i++)
        {
            _file.UnlockByte(UsedBase + i);
            _file.UnlockByte(RefusedBase + i);
        }
    }

    /// <summary>First all locks, then the look for others: of two that come at once at least one sees the other.</summary>
    private int Lock()
    {
        for (int i = 0; i < PermissionCount; i++)
        {
            int error = Has(_used, i) ? _file.TryLockByteShared(UsedBase + i) : 0;
            error = error == 0 && Has(_refused, i) ? _file.TryLockByteShared(RefusedBase + i) : error;
            if (error != 0)
            {
                return error;
            }
        }

        for (int i = 0; i < PermissionCount; i++)
        {
            int error = Has(_used, i) ? _file.FindLock(RefusedBase + i) : 0;
            error = error == 0 && Has(_refused, i) ? _file.FindLock(UsedBase + i) : error;
            if (error != 0)
            {
                return error;
            }
        }

        return 0;
    }

    private static bool Has(int permissions, int bit) => (permissions & (1 << bit)) != 0;
}
