using System.Text;

namespace Tutti.Guests.Tests;

public class BusyBoxInitramfsTests
{
    [Fact]
    public void It_holds_init_busybox_and_a_console_and_is_the_same_each_time()
    {
        byte[] first = Build();
        string text = Encoding.Latin1.GetString(first);
        Assert.Equal(first, Build());
        foreach (string name in (string[])["init", "bin/busybox", "dev/console", "etc/inittab", "etc/profile"])
        {
            Assert.Contains("\0" + name + "\0", text.Replace("00000000" + name, "\0" + name, StringComparison.Ordinal), StringComparison.Ordinal);
        }

        Assert.Contains("BUSYBOX BYTES", text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_scripts_have_unix_line_ends_and_name_their_shell()
    {
        string text = Encoding.Latin1.GetString(Build());
        Assert.DoesNotContain('\r', text);
        Assert.Contains("#!/bin/busybox sh\n", text, StringComparison.Ordinal);
    }

    private static byte[] Build()
    {
        using MemoryStream stream = new();
        BusyBoxInitramfs.Write(stream, "BUSYBOX BYTES"u8);
        return stream.ToArray();
    }
}
