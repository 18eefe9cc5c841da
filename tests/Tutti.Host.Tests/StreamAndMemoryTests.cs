using System.IO.Pipes;

namespace Tutti.Host.Tests;

public sealed class StreamAndMemoryTests
{
    [Fact]
    public void ReadGivesTheBytesOfAPipeThenItsEnd()
    {
        using AnonymousPipeServerStream writer = new(PipeDirection.Out);
        using HostStream reader = new((int)writer.ClientSafePipeHandle.DangerousGetHandle());
        writer.Write("abc"u8);
        byte[] buffer = new byte[10];
        Assert.Equal(3, reader.Read(buffer));
        Assert.Equal("abc"u8.ToArray(), buffer[..3]);
        writer.Dispose();
    }

    [Fact]
    public void CancelEndsAReadThatWaits()
    {
        using AnonymousPipeServerStream writer = new(PipeDirection.Out);
        using HostStream reader = new((int)writer.ClientSafePipeHandle.DangerousGetHandle());
        int result = -1;
        Thread thread = new(() => result = reader.Read(new byte[1]));
        thread.Start();
        Thread.Sleep(20);
        reader.Cancel();
        Assert.True(thread.Join(TimeSpan.FromSeconds(10)));
        Assert.Equal(0, result);
        Assert.Equal(0, reader.Read(new byte[1]));
    }

    [Fact]
    public void CancelEndsAWriteToAPipeThatNobodyDrains()
    {
        using AnonymousPipeServerStream reader = new(PipeDirection.In);
        using HostStream writer = new((int)reader.ClientSafePipeHandle.DangerousGetHandle());
        bool? result = null;
        Thread thread = new(() => result = writer.Write(new byte[1 << 20]));
        thread.Start();
        Thread.Sleep(20);
        Assert.Null(result);
        writer.Cancel();
        Assert.True(thread.Join(TimeSpan.FromSeconds(10)));
        Assert.False(result);
    }

    /// <summary>A terminal that has a little room polls as writable, and holds a write up that is larger.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void CancelEndsAWriteToATerminalThatNobodyDrains(bool isRaw)
    {
        for (int first = 1; first < 4096; first += 683)
        {
            using Pty pty = new();
            using HostTerminal? mode = isRaw ? HostTerminal.TryEnterRawMode(pty.Terminal) : null;
            using HostStream writer = new(pty.Terminal);
            Assert.True(writer.Write(new byte[first]));
            bool? result = null;
            Thread thread = new(() => result = writer.Write(Enumerable.Repeat((byte)'\n', 1 << 20).ToArray())) { IsBackground = true };
            thread.Start();
            Thread.Sleep(50);
            Assert.Null(result);
            writer.Cancel();
            Assert.True(thread.Join(TimeSpan.FromSeconds(10)), $"{first} bytes first");
            Assert.False(result);
        }
    }

    [Fact]
    public void WhatATerminalHasNoRoomForYetComesLaterAndWhole()
    {
        using Pty pty = new();
        using HostTerminal? mode = HostTerminal.TryEnterRawMode(pty.Terminal);
        using HostStream writer = new(pty.Terminal);
        using HostStream screen = new(pty.Master);
        byte[] sent = [.. Enumerable.Range(0, 300_000).Select(i => (byte)(i * 7 >> 3))];
        bool isWritten = false;
        Thread thread = new(() => isWritten = writer.Write(sent)) { IsBackground = true };
        thread.Start();
        byte[] shown = new byte[sent.Length];
        int count = 0;
        while (count < shown.Length)
        {
            int read = screen.Read(shown.AsSpan(count, Math.Min(1000, shown.Length - count)));
            Assert.True(read > 0);
            count += read;
        }

        Assert.True(thread.Join(TimeSpan.FromSeconds(10)));
        Assert.True(isWritten);
        Assert.Equal(sent, shown);
    }

    [Fact]
    public void ClosedDescriptorAndDevNullAreAtTheirEnd()
    {
        using HostStream closed = new(9999);
        Assert.Equal(0, closed.Read(new byte[1]));
        Assert.False(closed.Write([1]));
        using FileStream file = File.OpenRead("/dev/null");
        using HostStream nothing = new((int)file.SafeFileHandle.DangerousGetHandle());
        Assert.Equal(0, nothing.Read(new byte[1]));
    }

    [Fact]
    public void WriteToAPipeWithoutReaderIsFalse()
    {
        using AnonymousPipeServerStream reader = new(PipeDirection.In);
        int fd = (int)reader.ClientSafePipeHandle.DangerousGetHandle();
        reader.SafePipeHandle.Dispose();
        using HostStream writer = new(fd);
        Assert.False(writer.Write("x"u8));
    }

    [Fact]
    public void MemoryOfThisHostIsPlausible()
    {
        HostMemory memory = HostMemory.Read();
        Assert.InRange(memory.Total, 64 << 20, 1L << 50);
        Assert.InRange(memory.Available, 1, memory.Total);
    }

    [Theory]
    [InlineData("0::/a/b\n", "a/memory.max", "1000000", 1000000)]
    [InlineData("0::/a/b\n", "a/memory.max", "max", 8L << 30)]
    [InlineData("5:cpu,memory:/x\n", "memory/x/memory.limit_in_bytes", "4096", 4096)]
    [InlineData("5:cpu:/x\n", "memory/x/memory.limit_in_bytes", "4096", 8L << 30)]
    [InlineData("junk\n", "memory.max", "1", 8L << 30)]
    public void LowestControlGroupLimitCounts(string cgroup, string file, string limit, long expected)
    {
        string root = Directory.CreateTempSubdirectory("tutti-test").FullName;
        try
        {
            Write(root, "proc/meminfo", "MemTotal:    8388608 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n");
            Write(root, "proc/self/cgroup", cgroup);
            Write(root, "cgroup/" + file, limit + "\n");
            HostMemory memory = HostMemory.Read(Path.Combine(root, "proc"), Path.Combine(root, "cgroup"));
            Assert.Equal(expected, memory.Total);
            Assert.Equal(Math.Min(expected, 1 << 20), memory.Available);
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static void Write(string root, string path, string text)
    {
        string full = Path.Combine(root, path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        File.WriteAllText(full, text);
    }
}
