using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Tests.Disks;

/// <summary>An ext2 or ext3 file system of few blocks that no program would make: many places of a file are one block of the disk.</summary>
internal sealed class HostileExt
{
    public const int BlockSize = 65536;
    private const int InodeTable = 2;
    private const int InodeSize = 256;
    private const int FirstFree = 4;
    private int _next = FirstFree;

    public HostileExt(int blocks = 32)
    {
        Bytes = new byte[blocks * BlockSize];
        Put32(1024, 256);
        Put32(1024 + 4, (uint)blocks);
        Put32(1024 + 0x18, 6);
        Put32(1024 + 0x20, 524_280);
        Put32(1024 + 0x28, 256);
        BinaryPrimitives.WriteUInt16LittleEndian(Bytes.AsSpan(1024 + 0x38), 0xEF53);
        Put32(1024 + 0x4C, 1);
        BinaryPrimitives.WriteUInt16LittleEndian(Bytes.AsSpan(1024 + 0x58), InodeSize);
        Put32(1024 + 0x60, 2);
        Put32(BlockSize + 8, InodeTable);
    }

    public byte[] Bytes { get; }

    public MemoryDisk Disk => new(Bytes);

    /// <summary>Writes a block; its number.</summary>
    public int Add(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Bytes.AsSpan(_next * BlockSize, BlockSize));
        return _next++;
    }

    /// <summary>Makes an inode.</summary>
    /// <param name="mode">0x4000 for a folder, 0x8000 for a file, 0xA000 for a symbolic link.</param>
    /// <param name="pointers">As they stand in the inode.</param>
    public void SetInode(int number, ushort mode, long size, params int[] pointers)
    {
        int at = (InodeTable * BlockSize) + ((number - 1) * InodeSize);
        BinaryPrimitives.WriteUInt16LittleEndian(Bytes.AsSpan(at), mode);
        Put32(at + 4, (uint)size);
        Put32(at + 0x6C, (uint)(size >> 32));
        for (int i = 0; i < pointers.Length; i++)
        {
            Put32(at + 0x28 + (i * 4), (uint)pointers[i]);
        }
    }

    /// <summary>Pointers of a file whose every block is the same one.</summary>
    public int[] Repeat(int block)
    {
        int single = Add(Filled(block));
        int twice = Add(Filled(single));
        return [.. Enumerable.Repeat(block, 12), single, twice, Add(Filled(twice))];
    }

    /// <summary>A folder's block: entries with names of one letter for inode 2 until it is full, then those that are given.</summary>
    public static byte[] Folder(bool isFull, params (string Name, int Inode)[] last)
    {
        byte[] block = new byte[BlockSize];
        int end = BlockSize - last.Sum(entry => Length(entry.Name));
        int at = 0;
        while (isFull && at < end)
        {
            at += Entry(at, "x", 2, end - at < 24 ? end - at : 12);
        }

        foreach ((string name, int inode) in last)
        {
            at += Entry(at, name, inode, Length(name));
        }

        if (at < BlockSize)
        {
            Entry(at, "", 0, BlockSize - at);
        }

        return block;

        static int Length(string name) => (8 + name.Length + 3) & ~3;

        int Entry(int place, string name, int inode, int length)
        {
            BinaryPrimitives.WriteInt32LittleEndian(block.AsSpan(place), inode);
            BinaryPrimitives.WriteUInt16LittleEndian(block.AsSpan(place + 4), (ushort)length);
            block[place + 6] = (byte)name.Length;
            Encoding.ASCII.GetBytes(name).CopyTo(block, place + 8);
            return length;
        }
    }

    /// <summary>A journal of 2^20 blocks, the first of which is its superblock and all others the given one.</summary>
    public HostileExt WithJournal(byte[] record)
    {
        Put32(1024 + 0x5C, 4);
        Put32(1024 + 0x60, 2 | 4);
        Put32(1024 + 0xE0, 8);
        byte[] super = new byte[BlockSize];
        Big(super, 0, 0xC03B_3998, 4, 0, BlockSize, 1 << 20, 1, 1, 1);
        int[] pointers = Repeat(Add(record));
        pointers[0] = Add(super);
        SetInode(8, 0x8180, (1L << 20) * BlockSize, pointers);
        SetInode(2, 0x41ED, 0);
        return this;
    }

    public static void Big(Span<byte> bytes, int at, params uint[] values)
    {
        foreach (uint value in values)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes[at..], value);
            at += 4;
        }
    }

    private static byte[] Filled(int pointer)
    {
        byte[] block = new byte[BlockSize];
        for (int i = 0; i < BlockSize; i += 4)
        {
            BinaryPrimitives.WriteInt32LittleEndian(block.AsSpan(i), pointer);
        }

        return block;
    }

    private void Put32(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(Bytes.AsSpan(at), value);
}
