using System.Runtime.InteropServices;

namespace Tutti.Host;

/// <summary>
/// A ring of file operations that the kernel does beside this process: many begin with one system call, and their ends are read from shared memory. For
/// one thread at a time. Source: io_uring(7).
/// </summary>
public sealed unsafe class IoUring : IDisposable
{
    private readonly FileDescriptor _ring;
    private readonly MappedRange _rings;
    private readonly MappedRange _entries;
    private readonly SubmissionEntry* _sqes;
    private readonly CompletionEntry* _cqes;
    private readonly uint* _sqHead;
    private readonly uint* _sqTail;
    private readonly uint* _cqHead;
    private readonly uint* _cqTail;
    private readonly uint* _cqFlags;
    private readonly uint _sqMask;
    private readonly uint _cqMask;
    private readonly bool _hasPlainReads;

    /// <summary>What has been pushed; the kernel sees it at <see cref="Enter"/>.</summary>
    private uint _tail;

    private IoUring(FileDescriptor ring, in IoUringParams p)
    {
        _ring = ring;
        // The kernel allows at most 32,768 submissions and twice as many completions: nothing here overflows.
        Capacity = (int)p.SqEntries;
        long sqLength = p.SqOffsets.Array + (p.SqEntries * sizeof(uint));
        long cqLength = p.CqOffsets.Cqes + (p.CqEntries * sizeof(CompletionEntry));
        long length = Math.Max(sqLength, cqLength);
        _rings = MappedRange.Map((nuint)length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, ring.Number, LibC.IORING_OFF_SQ_RING);
        try
        {
            nuint entriesLength = (nuint)(p.SqEntries * sizeof(SubmissionEntry));
            _entries = MappedRange.Map(entriesLength, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, ring.Number, LibC.IORING_OFF_SQES);
        }
        catch
        {
            _rings.Dispose();
            throw;
        }

        // SAFETY: the kernel's offsets lie in the mapping, whose length is made from them.
        byte* start = (byte*)_rings.Address;
        _sqHead = (uint*)(start + p.SqOffsets.Head);
        _sqTail = (uint*)(start + p.SqOffsets.Tail);
        _cqHead = (uint*)(start + p.CqOffsets.Head);
        _cqTail = (uint*)(start + p.CqOffsets.Tail);
        _cqFlags = p.CqOffsets.Flags != 0 ? (uint*)(start + p.CqOffsets.Flags) : null;
        _cqes = (CompletionEntry*)(start + p.CqOffsets.Cqes);
        // SAFETY: the mapping has room for all entries.
        _sqes = (SubmissionEntry*)_entries.Address;
        // Masks from our own arithmetic, not from shared memory: an index masked by them can't leave the rings.
        _sqMask = p.SqEntries - 1;
        _cqMask = p.CqEntries - 1;
        _hasPlainReads = (p.Features & LibC.IORING_FEAT_RW_CUR_POS) != 0;
        uint* array = (uint*)(start + p.SqOffsets.Array);
        for (uint i = 0; i < p.SqEntries; i++)
        {
            array[i] = i;
        }

        _tail = *_sqTail;
    }

    /// <summary>Operations that may be under way at once, so that no end is ever lost: a power of two.</summary>
    public int Capacity { get; }

    /// <summary>Operations pushed but not begun.</summary>
    public int PushedCount => (int)(_tail - Volatile.Read(ref *_sqHead));

    /// <summary>Makes a ring, and tries it with an operation that does nothing; null where the host refuses (an old kernel, a sandbox, the administrator).</summary>
    /// <param name="capacity">Operations at once, 1 to 4096; rounded up to a power of two.</param>
    /// <param name="completions">Signalled when operations end.</param>
    public static IoUring? TryCreate(int capacity, EventFd completions)
    {
        ArgumentNullException.ThrowIfNull(completions);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, 4096);

        // The flag spares an interruption of the submitting thread for each end; kernels before 5.19 do not know it.
        FileDescriptor? ring = Setup(capacity, LibC.IORING_SETUP_CLAMP | LibC.IORING_SETUP_COOP_TASKRUN, out IoUringParams parameters)
            ?? Setup(capacity, LibC.IORING_SETUP_CLAMP, out parameters);
        if (ring == null)
        {
            return null;
        }

        IoUring? made = null;
        try
        {
            bool isUsable = (parameters.Features & LibC.IORING_FEAT_SINGLE_MMAP) != 0
                && uint.IsPow2(parameters.SqEntries) && uint.IsPow2(parameters.CqEntries) && parameters.CqEntries >= parameters.SqEntries;
            if (isUsable)
            {
                made = new IoUring(ring, parameters);
                if (made.Try() && made.Register(completions))
                {
                    return made;
                }
            }
        }
        catch (HostException)
        {
            // No room for the rings: locked memory is limited on older kernels.
        }

        made?.Dispose();
        ring.Dispose();
        return null;
    }

    /// <summary>Adds a read or write of vectors at a file's offset.</summary>
    /// <param name="file">The file, open until the operation's end.</param>
    /// <param name="isWrite">Whether it is written.</param>
    /// <param name="vectors">Address of <c>iovec</c>s, which stay there, as does what they point to, until the end; the caller vouches for that.</param>
    /// <param name="count">Their number, 1 to 1024.</param>
    /// <param name="offset">Where in the file.</param>
    /// <param name="tag">Comes back with the end.</param>
    /// <returns>False where <see cref="Capacity"/> operations have been pushed already.</returns>
    public bool TryPush(HostFile file, bool isWrite, nint vectors, int count, long offset, ulong tag)
    {
        ArgumentNullException.ThrowIfNull(file);
        SubmissionEntry entry = new() { Fd = file.Descriptor.Number, Offset = offset, UserData = tag };
        if (count == 1 && _hasPlainReads)
        {
            // SAFETY: the caller vouches for the vector: an address and a length.
            ulong* vector = (ulong*)vectors;
            entry.Opcode = isWrite ? LibC.IORING_OP_WRITE : LibC.IORING_OP_READ;
            entry.Address = vector[0];
            entry.Length = (uint)Math.Min(vector[1], int.MaxValue);
        }
        else
        {
            entry.Opcode = isWrite ? LibC.IORING_OP_WRITEV : LibC.IORING_OP_READV;
            entry.Address = (ulong)vectors;
            entry.Length = (uint)count;
        }

        return TryPush(entry);
    }

    /// <summary>Adds an fdatasync; see <see cref="HostFile.TryFlush"/>.</summary>
    /// <returns>False where <see cref="Capacity"/> operations have been pushed already.</returns>
    public bool TryPushFlush(HostFile file, ulong tag)
    {
        ArgumentNullException.ThrowIfNull(file);
        return TryPush(new SubmissionEntry
        {
            Opcode = LibC.IORING_OP_FSYNC,
            Fd = file.Descriptor.Number,
            OperationFlags = LibC.IORING_FSYNC_DATASYNC,
            UserData = tag,
        });
    }

    /// <summary>Begins what was pushed: one system call, none where there is nothing.</summary>
    /// <returns>0, or the error number where the kernel began not all of it: try again when something has ended, or later.</returns>
    public int Enter()
    {
        Volatile.Write(ref *_sqTail, _tail);
        while (PushedCount is int count and > 0)
        {
            nint done = LibC.syscall(LibC.SYS_io_uring_enter, _ring.Number, count, 0, 0, 0, 0);
            if (done < 0 && Marshal.GetLastPInvokeError() is int error and not LibC.EINTR)
            {
                return error;
            }

            if (done == 0)
            {
                return LibC.EAGAIN;
            }
        }

        return 0;
    }

    /// <summary>Takes the next end, if there is one.</summary>
    /// <param name="tag">What the operation was pushed with.</param>
    /// <param name="result">Bytes, or an error number, negative.</param>
    public bool TryTake(out ulong tag, out int result)
    {
        uint head = *_cqHead;
        if (head == Volatile.Read(ref *_cqTail))
        {
            tag = 0;
            result = 0;
            return false;
        }

        // SAFETY: the mask keeps the index in the ring.
        CompletionEntry entry = _cqes[head & _cqMask];
        Volatile.Write(ref *_cqHead, head + 1);
        tag = entry.UserData;
        result = entry.Result;
        return true;
    }

    /// <summary>Whether an end waits to be taken.</summary>
    public bool HasCompletions => *_cqHead != Volatile.Read(ref *_cqTail);

    /// <summary>
    /// Holds the signals back, for a thread that is about to look anyway, or lets them come again: then look once more, since those of ends in between
    /// are not made up for. A kernel without this (before 5.8) signals always.
    /// </summary>
    public void HoldSignals(bool isHeld)
    {
        if (_cqFlags != null)
        {
            Volatile.Write(ref *_cqFlags, isHeld ? LibC.IORING_CQ_EVENTFD_DISABLED : 0);
            Interlocked.MemoryBarrier();
        }
    }

    /// <summary>Closes the ring; no operation may be under way.</summary>
    public void Dispose()
    {
        _ring.Dispose();
        _entries.Dispose();
        _rings.Dispose();
    }

    private static FileDescriptor? Setup(int capacity, uint flags, out IoUringParams parameters)
    {
        IoUringParams p = new() { Flags = flags };
        // SAFETY: the kernel reads and writes the local, which has its struct's size (tested).
        nint fd = LibC.syscall(LibC.SYS_io_uring_setup, capacity, (nint)(&p), 0, 0, 0, 0);
        parameters = p;
        return fd >= 0 ? FileDescriptor.Own((int)fd, "io_uring_setup") : null;
    }

    /// <summary>Some sandboxes let a ring be made but not be used.</summary>
    private bool Try()
    {
        const ulong Tag = 1;
        if (!TryPush(new SubmissionEntry { Opcode = LibC.IORING_OP_NOP, UserData = Tag }) || Enter() != 0)
        {
            return false;
        }

        while (!HasCompletions)
        {
            nint done = LibC.syscall(LibC.SYS_io_uring_enter, _ring.Number, 0, 1, (nint)LibC.IORING_ENTER_GETEVENTS, 0, 0);
            if (done < 0 && Marshal.GetLastPInvokeError() != LibC.EINTR)
            {
                return false;
            }
        }

        return TryTake(out ulong tag, out int result) && tag == Tag && result == 0;
    }

    private bool Register(EventFd completions)
    {
        int fd = completions.Descriptor.Number;
        // SAFETY: the kernel reads the local during the call.
        return LibC.syscall(LibC.SYS_io_uring_register, _ring.Number, (nint)LibC.IORING_REGISTER_EVENTFD, (nint)(&fd), 1, 0, 0) == 0;
    }

    private bool TryPush(in SubmissionEntry entry)
    {
        if (PushedCount >= Capacity)
        {
            return false;
        }

        // SAFETY: the mask keeps the index in the ring.
        _sqes[_tail & _sqMask] = entry;
        _tail++;
        return true;
    }
}
