using System.Diagnostics;
using System.Text;

namespace Tutti.Machine.Tests;

public sealed class ConsoleTests
{
    [Fact]
    public void FirstByteAfterSilenceLeavesSoon()
    {
        FakeConsole console = new();
        using ConsoleOutput output = new(console, () => { }, _ => { });
        Stopwatch watch = Stopwatch.StartNew();
        Assert.True(output.TryPut((byte)'x'));
        Assert.True(SpinWait.SpinUntil(() => console.Text == "x", TimeSpan.FromSeconds(10)));
        Assert.True(watch.ElapsedMilliseconds < 2000);
    }

    [Fact]
    public void DisposeDeliversEverythingInOrder()
    {
        FakeConsole console = new();
        StringBuilder expected = new();
        using (ConsoleOutput output = new(console, () => { }, _ => { }))
        {
            for (int i = 0; i < 10_000; i++)
            {
                char value = (char)('a' + (i % 26));
                expected.Append(value);
                Assert.True(output.TryPut((byte)value));
            }
        }

        Assert.Equal(expected.ToString(), console.Text);
        Assert.True(console.Writes < 1000, $"{console.Writes} writes");
    }

    [Fact]
    public void StuckBackendRefusesBytesAndTellsWhenThereIsRoom()
    {
        FakeConsole console = new();
        console.Gate.Reset();
        using ManualResetEventSlim room = new();
        using (ConsoleOutput output = new(console, room.Set, _ => { }))
        {
            int taken = 0;
            while (output.TryPut((byte)'x'))
            {
                Assert.True(++taken <= 1 << 20);
            }

            Assert.False(room.IsSet);
            console.Gate.Set();
            Assert.True(room.Wait(TimeSpan.FromSeconds(10)));
            Assert.True(output.TryPut((byte)'y'));
        }

        Assert.EndsWith("xy", console.Text);
    }

    [Fact]
    public void BackendThatIsGoneSwallowsOutput()
    {
        FakeConsole console = new() { IsGone = true };
        using ConsoleOutput output = new(console, () => { }, _ => { });
        for (int i = 0; i < 200_000; i++)
        {
            Assert.True(SpinWait.SpinUntil(() => output.TryPut(0), TimeSpan.FromSeconds(10)));
        }

        Assert.Equal(string.Empty, console.Text);
    }

    [Theory]
    [InlineData("[    1.5] Kernel panic - not syncing: VFS", true)]
    [InlineData("KKernel panic - not syncing", true)]
    [InlineData("Kernel panKernel panic - not syncing", true)]
    [InlineData("Kernel panic - not synching", false)]
    [InlineData("kernel panic - not syncing", false)]
    public void PanicLineIsFoundInTheStream(string text, bool expected)
    {
        PanicWatcher watcher = new();
        foreach (byte value in Encoding.ASCII.GetBytes(text))
        {
            watcher.Watch(value);
        }

        Assert.Equal(expected, watcher.Seen);
    }
}
