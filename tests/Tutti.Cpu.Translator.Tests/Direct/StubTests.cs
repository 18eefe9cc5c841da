using System.Globalization;
using Tutti.Host;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>The process that runs user code: it can do nothing but be shown pages, and does not outlive the thread that has made it.</summary>
public sealed unsafe class StubTests : IDisposable
{
    private readonly HostMapping _ram = new(16 << 12, shared: true);

    public void Dispose() => _ram.Dispose();

    [Fact]
    public void It_maps_pages_of_the_file_and_takes_them_away()
    {
        using StubProcess stub = new(_ram.File!.Number);
        Assert.True(stub.TryMap(0x40_0000, 8192, 4096, PageRights.Read | PageRights.Write));
        Assert.True(stub.TryProtect(0x40_0000, 4096));
        Assert.True(stub.TryCarryOut());
        string[] maps = File.ReadAllLines($"/proc/{stub.Process.Id}/maps");
        Assert.Contains(maps, static line => line.StartsWith("00400000-00401000 r--s", StringComparison.Ordinal));
        Assert.Contains(maps, static line => line.StartsWith("00401000-00402000 rw-s", StringComparison.Ordinal));

        // Besides: its code, its list, and the page that the kernel shows to all.
        Assert.Equal(5, maps.Length);
        Assert.DoesNotContain(maps, static line => line.Contains("rwx", StringComparison.Ordinal));
        stub.UnmapAll();
        Assert.True(stub.TryCarryOut());
        Assert.Equal(3, File.ReadAllLines($"/proc/{stub.Process.Id}/maps").Length);
    }

    [Fact]
    public void It_has_no_descriptor_but_the_file()
    {
        using StubProcess stub = new(_ram.File!.Number);
        string descriptor = Assert.Single(Directory.GetFiles($"/proc/{stub.Process.Id}/fd"));
        Assert.Equal("3", Path.GetFileName(descriptor));
    }

    /// <summary>read, open, getpid, ptrace, kill and the filter itself.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(39)]
    [InlineData(101)]
    [InlineData(62)]
    [InlineData(317)]
    public void A_system_call_of_another_kind_is_not_done(long call)
    {
        using StubProcess stub = new(_ram.File!.Number);
        Assert.True(stub.TryAdd(call));
        Assert.False(stub.TryCarryOut());
        Assert.Equal((ulong)call, stub.LastResult);
    }

    [Fact]
    public void A_call_from_elsewhere_is_not_done()
    {
        using StubProcess stub = new(_ram.File!.Number);

        // SYSCALL at a page of the guest's: munmap, which the stub's own code may call.
        *(ushort*)_ram.Address = 0x050F;
        Assert.True(stub.TryMap(0x40_0000, 4096, 0, PageRights.Read | PageRights.Execute));
        Assert.True(stub.TryCarryOut());
        stub.Process.SetRegisters(stub.First with { Rip = 0x40_0000, Rax = StubImage.CallMunmap, Rdi = 0x40_0000, Rsi = 4096, CallRax = ulong.MaxValue });
        Assert.Equal(new TraceStop(TraceStopKind.Signal, 31), stub.Process.Run());
        Assert.Contains(File.ReadAllLines($"/proc/{stub.Process.Id}/maps"), static line => line.StartsWith("00400000-", StringComparison.Ordinal));
    }

    [Fact]
    public void A_call_is_not_done_while_guest_code_runs()
    {
        using StubProcess stub = new(_ram.File!.Number);
        *(ushort*)_ram.Address = 0x050F;
        Assert.True(stub.TryMap(0x40_0000, 4096, 0, PageRights.Read | PageRights.Execute));
        Assert.True(stub.TryCarryOut());

        // Its own code, too, which the filter lets through.
        foreach (ulong rip in (ulong[])[0x40_0000, StubImage.RunAddress(stub.Address) + 32])
        {
            stub.Process.SetRegisters(stub.First with { Rip = rip, Rax = StubImage.CallMunmap, Rdi = 0x40_0000, Rsi = 4096, CallRax = ulong.MaxValue });
            Assert.Equal(TraceStopKind.SystemCall, stub.Process.RunWithoutCalls().Kind);
        }

        Assert.Contains(File.ReadAllLines($"/proc/{stub.Process.Id}/maps"), static line => line.StartsWith("00400000-", StringComparison.Ordinal));
    }

    [Fact]
    public void It_ends_with_the_thread_that_has_made_it()
    {
        int id = 0;
        var thread = new Thread(() => id = new StubProcess(_ram.File!.Number).Process.Id);
        thread.Start();
        thread.Join();
        Assert.True(SpinWait.SpinUntil(() => IsGone(id), TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void What_the_host_refuses_is_told()
    {
        using StubProcess stub = new(_ram.File!.Number);

        // Not a multiple of a page.
        Assert.True(stub.TryAdd(StubImage.CallMunmap, 0x40_0001, 4096));
        Assert.False(stub.TryCarryOut());
        Assert.True(stub.TryMap(0x40_0000, 4096, 0, PageRights.Read));
        Assert.True(stub.TryCarryOut());
        Assert.False(stub.TryMap(stub.Address, 4096, 0, PageRights.Read));
    }

    private static bool IsGone(int id)
    {
        try
        {
            string stat = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{id}/stat"));
            return stat[stat.LastIndexOf(')') + 2] is 'Z' or 'X';
        }
        catch (IOException)
        {
            return true;
        }
    }
}
