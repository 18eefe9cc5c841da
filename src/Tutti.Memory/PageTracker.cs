using System.Runtime.CompilerServices;

namespace Tutti.Memory;

/// <summary>One byte of marks for each page of RAM, by page index in the host mapping.</summary>
public sealed class PageTracker
{
    private const byte DirtyMark = 1;
    private const byte CodeMark = 2;
    private const byte WritableMark = 4;
    private readonly byte[] _marks;

    internal PageTracker(GuestMemory memory)
    {
        _marks = new byte[memory.Size >> 12];
    }

    /// <summary>Number of pages.</summary>
    public long Count => _marks.LongLength;

    /// <summary>Whether a processor has decoded bytes of this page since <see cref="ClearCode"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool HasCode(long page) => (Volatile.Read(ref _marks[page]) & CodeMark) != 0;

    /// <summary>Marks a page as decoded; true when it was not marked before.</summary>
    public bool SetCode(long page) => Set(page, CodeMark);

    /// <summary>Takes the decoded mark off.</summary>
    public void ClearCode(long page) => Clear(page, CodeMark);

    /// <summary>Whether the page was written since <see cref="TakeDirty"/>.</summary>
    public bool IsDirty(long page) => (_marks[page] & DirtyMark) != 0;

    /// <summary>Marks a page as written.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void SetDirty(long page)
    {
        if ((_marks[page] & DirtyMark) == 0)
        {
            Set(page, DirtyMark);
        }
    }

    /// <summary>Returns whether the page was dirty and clears the mark in one step.</summary>
    public bool TakeDirty(long page) => Clear(page, DirtyMark);

    /// <summary>
    /// A processor is about to remember that it may write to the page, unless <see cref="HasCode"/> says, after this, that it must not. Who marks a page as
    /// decoded and then finds this mark takes that right from all processors.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void NoteWritable(long page)
    {
        if ((Volatile.Read(ref _marks[page]) & WritableMark) == 0)
        {
            Set(page, WritableMark);
        }
    }

    /// <summary>Returns whether a processor may remember that it may write to the page, and clears the mark in one step.</summary>
    public bool TakeWritable(long page) => Clear(page, WritableMark);

    private bool Set(long page, byte mark) => (Replace(page, mark, 0) & mark) == 0;

    private bool Clear(long page, byte mark) => (Replace(page, 0, mark) & mark) != 0;

    /// <summary>Sets and clears marks in one atomic step; returns the marks from before.</summary>
    private byte Replace(long page, byte set, byte clear)
    {
        ref byte marks = ref _marks[page];
        byte old = Volatile.Read(ref marks);
        while (true)
        {
            byte seen = Interlocked.CompareExchange(ref marks, (byte)((old | set) & ~clear), old);
            if (seen == old)
            {
                return old;
            }

            old = seen;
        }
    }
}
