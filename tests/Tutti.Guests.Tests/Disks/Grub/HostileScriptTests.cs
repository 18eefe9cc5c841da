using System.Diagnostics;
using System.Globalization;
using Tutti.Guests.Disks;
using Tutti.Guests.Disks.Grub;
using Tutti.Guests.Disks.Loaders;

namespace Tutti.Guests.Tests.Disks.Grub;

/// <summary>Menus of which a single command would cost the host minutes or gigabytes, between two looks at the time. Each ends soon, with an entry or a line.</summary>
public class HostileScriptTests
{
    /// <summary>Garbage included: what is alive at once is less.</summary>
    private const long Allocations = 400L << 20;
    private const string Entry = "menuentry x { linux /k }\n";

    [Theory]
    [InlineData("blanks", "no end in sight")]
    [InlineData("words", "no end in sight")]
    [InlineData("arguments", "no end in sight")]
    [InlineData("braces", null)]
    [InlineData("environment", null)]
    [InlineData("options", "no end in sight")]
    [InlineData("pattern", null)]
    [InlineData("loader entries", "no end in sight")]
    [InlineData("evaluated", "no end in sight")]
    public void A_command_that_would_take_minutes_or_gigabytes(string kind, string? problem)
    {
        MemoryFiles files = new();
        files["/grub/grub.cfg"] = Entry + kind switch
        {
            // Blanks between words are no characters of any.
            "blanks" => $"b='{new string(' ', 200_000)}'\necho {Repeat("$b", 60_000)}\n",
            "words" => $"b='{Repeat("a ", 200_000)}'\necho {Repeat("$b", 60_000)}\n",
            "arguments" => $"function f {{\necho {Repeat("$@", 60_000)}\n}}\nf '{new string('a', 300_000)}' b\n",
            "braces" => $"echo {Repeat("${", 400_000)}\n",
            "environment" => $"load_env -f /grub/env {Numbers(100_000, " ")}\n",
            "options" => $"load_env {Repeat("- ", 400_000)}\n",
            "pattern" => $"for i in /many/{Repeat("*", 100_000)}x; do true; done\n",
            "loader entries" => $"kernelopts={new string('a', 900_000)}\nblscfg\nblscfg\nblscfg\n",
            "evaluated" => $"a='{Repeat("a;", 20_000)}'\nfor i in {Repeat("1 ", 90)}; do j=1$j; eval \"function f$j {{ $a }}\"; done\n",
            _ => throw new ArgumentException(kind),
        };
        files["/grub/env"] = kind == "environment" ? Numbers(100_000, "=x\n") : "x=y\n";
        for (int i = 0; kind == "pattern" && i < 300; i++)
        {
            files[$"/many/{new string('y', 200)}{i}"] = "";
        }

        for (int i = 0; kind == "loader entries" && i < 250; i++)
        {
            files[$"/loader/entries/{i}.conf"] = "linux /k\n";
        }

        Measure(() =>
        {
            GrubMenu menu = GrubMenu.FindAll(MemoryFiles.Disk(files), files.Budget).Single();
            _ = menu.Names;
            if (problem == null)
            {
                Assert.Equal("/k", menu.Choose(null).Kernel.Path);
            }
            else
            {
                Assert.Contains(problem, Assert.Throws<ImageException>(() => menu.Choose(null)).Message, StringComparison.Ordinal);
            }
        });
    }

    [Fact]
    public void A_submenu_s_long_title_before_each_of_its_entries()
    {
        MemoryFiles files = new() { ["/grub/grub.cfg"] = $"submenu '{new string('>', 400_000)}' {{\n{Repeat("menuentry x { linux /k }\n", 1000)}}}\n" };
        Measure(() =>
        {
            GrubMenu menu = GrubMenu.FindAll(MemoryFiles.Disk(files), files.Budget).Single();
            Assert.NotEmpty(menu.Names);
            Assert.Equal("/k", menu.Choose(null).Kernel.Path);
            Assert.InRange(Assert.Throws<ImageException>(() => menu.Choose("none")).Message.Length, 1, 2000);
        });
    }

    [Fact]
    public void An_entry_whose_words_were_cut_off_is_not_started() =>
        Assert.Contains("no end in sight", Assert.Throws<ImageException>(() => GrubMenu.FindAll(
            MemoryFiles.Disk(new MemoryFiles { ["/grub/grub.cfg"] = $"a={new string('a', 900_000)}\nmenuentry x {{\nlinux /k $a $a $a $a $a root=/dev/vda1\n}}\n" }), new ReadBudget(1 << 20)).Single().Choose(null)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("default")]
    [InlineData("options")]
    [InlineData("lines")]
    public void A_loader_s_entry_that_would_take_minutes_or_gigabytes(string kind)
    {
        MemoryFiles files = new() { ["/loader/entries/a.conf"] = "linux /k\n" };
        switch (kind)
        {
            case "default":
                files["/loader/loader.conf"] = $"default {Repeat("*", 100_000)}x\n";
                for (int i = 0; i < 250; i++)
                {
                    files[$"/loader/entries/{new string('y', 200)}{i}.conf"] = "linux /k\n";
                }

                break;
            case "options":
                files["/loader/entries/a.conf"] = $"linux /k\noptions {Repeat("$b", 100_000)}\n";
                files["/grub2/grubenv"] = $"b={new string(' ', 300_000)}\n";
                break;
            default:
                files["/loader/entries/a.conf"] = "linux /k\n" + Repeat("options a\n", 100_000);
                break;
        }

        Measure(() => Assert.Equal("/k", LoaderMenu.Read(MemoryFiles.Disk(files)).Choose(null).Kernel.Path));
    }

    private static string Repeat(string text, int count) => string.Concat(Enumerable.Repeat(text, count));

    private static string Numbers(int count, string behind) => string.Concat(Enumerable.Range(100_000, count).Select(i => i.ToString(CultureInfo.InvariantCulture) + behind));

    private static void Measure(Action look)
    {
        Stopwatch watch = Stopwatch.StartNew();
        long before = GC.GetAllocatedBytesForCurrentThread();
        look();
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, Allocations);
        Assert.InRange(watch.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(20));
    }
}
