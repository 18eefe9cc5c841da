using System.Diagnostics;
using Tutti.Guests.Disks;
using Tutti.Guests.Disks.Grub;

namespace Tutti.Guests.Tests.Disks.Grub;

public class GrubMenuTests
{
    private const string Kernels = """
        menuentry 'A' --class x --id a { linux /a one }
        menuentry "B" { linux /b two; initrd /i1 /i2 }
        submenu 'More' --id more {
          menuentry 'C > D' --id c { linux /c three }
          menuentry 'E' { linux /e }
        }
        menuentry 'F' --id f { chainloader /EFI/x.efi }

        """;

    [Theory]
    [InlineData("", "/a")]
    [InlineData("set default=1\n", "/b")]
    [InlineData("default=1\n", "/b")]
    [InlineData("set default=B\n", "/b")]
    [InlineData("set default='2>0'\n", "/c")]
    [InlineData("set default='2>1'\n", "/e")]
    [InlineData("set default='2'\n", "/c")]
    [InlineData("set default='more>c'\n", "/c")]
    [InlineData("set default='More>C >> D'\n", "/c")]
    [InlineData("set default=gone\n", "/a")]
    [InlineData("set default=17\n", "/a")]
    [InlineData("load_env\nset default=\"${saved_entry}\"\n", "/b")]
    [InlineData("load_env saved_entry\nset default=\"$saved_entry\"\n", "/b")]
    [InlineData("load_env -f ($root)/grub/other\nset default=\"$saved_entry\"\n", "/e")]
    [InlineData("if [ -s $prefix/grubenv ]; then load_env; fi\nif [ \"${next_entry}\" ] ; then set default=\"${next_entry}\"; else set default=\"${saved_entry}\"; fi\n", "/b")]
    [InlineData("if [ -f /nowhere ]; then set default=0; elif [ -d /grub ]; then set default=1; else set default=2; fi\n", "/b")]
    [InlineData("if test x$feature_menuentry_id = xy -a ! -z \"x\"; then set default=1; fi\n", "/b")]
    [InlineData("function pick { set default=\"$1\"; return; set default=0; }\npick B ignored\n", "/b")]
    [InlineData("for i in 0 1; do set default=$i; done\n", "/b")]
    [InlineData("set i=x\nwhile [ $i != xxxx ]; do i=x$i; if [ $i = xxx ]; then break; fi; done\nif [ $i = xxx ]; then set default=1; fi\n", "/b")]
    [InlineData("until [ -n \"$done\" ]; do done=1; default=1; done\n", "/b")]
    [InlineData("if ! true; then set default=0; else set default=1; fi # not this: set default=0\n", "/b")]
    [InlineData("source /grub/more.cfg\n", "/b")]
    [InlineData("search --no-floppy --fs-uuid --set=other U-2\nset default=0\nif [ \"$other\" = \"hd0,2\" ]; then default=1; fi\n", "/b")]
    [InlineData("search.fs_uuid U-2 other hd0,gpt2\nif [ \"($other)\" = \"(hd0,2)\" ]; then default=1; fi\n", "/b")]
    [InlineData("search --set other --label TWO\nif [ \"($other)\" = \"(hd0,2)\" ]; then default=1; fi\n", "/b")]
    [InlineData("search --label TWO --set other --no-floppy\nif [ \"($other)\" = \"(hd0,2)\" ]; then default=1; fi\n", "/b")]
    [InlineData("search --no-floppy --label --set TWO\nif [ \"($root)\" = \"(hd0,2)\" ]; then default=1; fi\nset root=hd0,1\n", "/b")]
    [InlineData("for file in ${prefix}/*re.cfg; do source ${file}; done\n", "/b")]
    [InlineData("for file in ${prefix}/none*.cfg; do default=$file; done\nif [ $default = ($root)/grub/none*.cfg ]; then default=1; fi\n", "/b")]
    [InlineData("if keystatus --shift; then default=0; else default=1; fi\n", "/b")]
    [InlineData("if [ \"a b\" = a\\ b -o nothing ]; then default=1; fi\n", "/b")]
    [InlineData("if [ 10 -gt 9 -a 1 -le 1 ]; then default=1; fi\n", "/b")]
    [InlineData("if [ ( a = b -o a = a ) -a c = c ]; then default=1; fi\n", "/b")]
    [InlineData("eval default=1\n", "/b")]
    public void The_default_entry_is_the_one_that_GRUB_would_start(string before, string kernel)
    {
        Assert.Equal(kernel, Menu(before + Kernels).Choose(null).Kernel.Path);
    }

    [Theory]
    [InlineData("1", "/b")]
    [InlineData("B", "/b")]
    [InlineData("a", "/a")]
    [InlineData("More>E", "/e")]
    [InlineData("2>1", "/e")]
    public void An_entry_is_chosen_by_number_title_or_identifier(string wanted, string kernel) => Assert.Equal(kernel, Menu(Kernels).Choose(wanted).Kernel.Path);

    [Fact]
    public void An_entry_that_is_not_there_is_answered_with_those_that_are()
    {
        string message = Assert.Throws<ImageException>(() => Menu(Kernels).Choose("Z")).Message;
        Assert.Contains("0 'A', 1 'B', 2 'More>C >> D', 3 'More>E', 4 'F'", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_are_what_GRUB_makes_of_them()
    {
        BootEntry entry = Menu("""
            set empty=
            set words="x=1  y=2"
            set quoted='single $words "stays"'
            function gfxmode { if [ "$1" = keep ]; then set vt=vt.handoff=7; fi }
            menuentry "it's \"quoted\"" {
              gfxmode keep
              linux ($root)/vmlinuz root=UUID=1 $empty ${empty} $words "$words" a\ b'c'"d" $vt \
                last $quoted # comment
              initrd /none
              initrd /ucode $empty /ram
            }
            """).Choose(null);
        Assert.Equal("it's \"quoted\"", entry.Title);
        Assert.Equal("root=UUID=1 x=1 y=2 \"x=1  y=2\" \"a bcd\" vt.handoff=7 last single $words \\\"stays\\\"", entry.Options);
        Assert.Equal(["/ucode", "/ram"], entry.Initrds.Select(file => file.Path));
    }

    /// <summary>GNU GRUB puts a backslash before quotes and backslashes; Fedora's leaves \xHH alone, as systemd names devices.</summary>
    [Theory]
    [InlineData("a=\"b c\"", "\"a=b c\"")]
    [InlineData("dyndbg=\\\"file x +p\\\"", "dyndbg=\\\"file x +p\\\"")]
    [InlineData("a='\"b c\"'", "\"a=\\\"b c\\\"\"")]
    [InlineData("a=b\\\\c d='e\\f' it\\'s", "a=b\\\\c d=e\\\\f it\\'s")]
    [InlineData("luks=a\\x2db 'c\\x2dd' \"e\\x2df\" g\\y", "luks=a\\x2db c\\x2dd e\\x2df gy")]
    public void A_kernel_s_words_are_quoted_as_GRUB_quotes_them(string written, string given) =>
        Assert.Equal(given, Menu($"menuentry x {{\nlinux /k {written}\n}}\n").Choose(null).Options);

    [Theory]
    [InlineData("menuentry 'x'{\nlinux /k\n}\n")]
    [InlineData("menuentry 'x' {linux /k}\n")]
    [InlineData("menuentry 'x'{linux /k;}\n")]
    [InlineData("a=x; menuentry ${a}{linux /k}\n")]
    [InlineData("function f{\ntrue\n}\nmenuentry x{\nf\nlinux /k ${a}\n}\n")]
    [InlineData("submenu s{menuentry x{linux /k}}\n")]
    public void Braces_need_no_blanks_around_them(string text) => Assert.Equal("/k", Menu(text).Choose(null).Kernel.Path);

    [Fact]
    public void Only_what_is_exported_reaches_a_submenu()
    {
        BootEntry entry = Menu("set a=1\nset b=2\nexport b\nsubmenu s { menuentry m { linux /k a=$a b=$b ${root} } }\n").Choose(null);
        Assert.Equal("a= b=2 hd0,1", entry.Options);
    }

    [Fact]
    public void The_kernel_s_device_is_followed_to_another_partition()
    {
        BootEntry entry = Menu("search --fs-uuid --set=root U-2\nmenuentry x { linux /k }").Choose(null);
        Assert.Equal(2, entry.Kernel.Volume!.Partition.Number);
        Assert.Equal(2, Menu("menuentry x { linux (hd0,gpt2)/k }").Choose(null).Kernel.Volume!.Partition.Number);
        Assert.Equal(2, Menu("set root='hd0,msdos2'\nmenuentry x { linux /k }").Choose(null).Kernel.Volume!.Partition.Number);
    }

    [Theory]
    [InlineData("set root=(hd0,2)\nif [ $root = hd0,2 ]; then set x=1; fi\nmenuentry x { linux /k $x }\n")]
    [InlineData("menuentry x { set root='(hd0,msdos2)'; linux /k 1 }\n")]
    [InlineData("root=(hd0,gpt2)\nmenuentry x { linux /k 1 }\n")]
    public void Brackets_around_the_root_are_taken_off(string text)
    {
        BootEntry entry = Menu(text).Choose(null);
        Assert.Equal((2, "1"), (entry.Kernel.Volume!.Partition.Number, entry.Options));
    }

    [Theory]
    [InlineData("probe --set=id --fs-uuid (hd0,2)", "root=u-2")]
    [InlineData("probe -s id -u hd0,2", "root=u-2")]
    [InlineData("probe -u ($root) --set=id", null)]
    [InlineData("probe --label --set id (hd0,2)", "root=TWO")]
    [InlineData("probe --fs --set=id (hd0,2)", null)]
    [InlineData("if probe --set=id -u (hd0,9); then id=there; else id=gone; fi", "root=gone")]
    public void What_a_device_is_called_can_be_asked(string command, string? options)
    {
        GrubMenu menu = Menu(command + "\nmenuentry x { linux /k root=$id }\n");
        if (options == null)
        {
            Assert.Contains("(probe ", Assert.Throws<ImageException>(() => menu.Choose(null)).Message, StringComparison.Ordinal);
        }
        else
        {
            Assert.Equal(options, menu.Choose(null).Options);
        }
    }

    [Theory]
    [InlineData(null, "/b")]
    [InlineData("other", "/b")]
    [InlineData("other>A", "/a")]
    [InlineData("own", "/o")]
    public void An_entry_may_lead_to_another_file_s_menu(string? wanted, string kernel)
    {
        MemoryFiles files = new()
        {
            ["/grub/grub.cfg"] = "menuentry other { configfile /grub/other.cfg }\nmenuentry own { linux /o }\n",
            ["/grub/other.cfg"] = "set default=B\nmenuentry A { linux /a }\nmenuentry B { linux /b }\n",
        };
        Assert.Equal(kernel, Menu(files).Choose(wanted).Kernel.Path);
        files["/grub/other.cfg"] = "menuentry again { configfile /grub/other.cfg }\n";
        Assert.Contains("no end", Assert.Throws<ImageException>(() => Menu(files).Choose("other")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("menuentry x { linux (lvm/vg-root)/vmlinuz root=/dev/x }", "(lvm/vg-root)")]
    [InlineData("set root=hd1,1\nmenuentry x { linux /vmlinuz }", "(hd1,1)")]
    [InlineData("menuentry k3OS { search.fs_label TWO root\nset sqfile=/kernel.squashfs\nloopback loop0 /$sqfile\nset root=($root)\nlinux (loop0)/vmlinuz\ninitrd /initrd\n}", "(loop0)")]
    [InlineData("menuentry x { true }", "loads no kernel")]
    [InlineData("menuentry x { multiboot2 /xen.gz }", "multiboot2 /xen.gz")]
    [InlineData("menuentry x { linux /k }\ngptprio.next -d usr -u uuid", "gptprio.next")]
    [InlineData("menuentry x { linux /k }\nif true; then", "line 2")]
    [InlineData("menuentry x { linux /k }\nmenuentry 'y", "line 2")]
    [InlineData("menuentry x { linux /k }\nfunction f { f; }\nf", "too deep")]
    [InlineData("menuentry x { linux /k }\nwhile true; do true; done", "no end in sight")]
    [InlineData("menuentry x { linux /k }\na=12345678901234567890\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do a=$a$a; done", "no end in sight")]
    [InlineData("menuentry x { linux /k }\nsource /grub/self.cfg", "without end")]
    public void What_is_beyond_us_is_asked_for_in_a_line_and_not_guessed(string text, string part)
    {
        string message = Assert.Throws<ImageException>(() => Menu(text).Choose(null)).Message;
        Assert.Contains(part, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void A_user_s_choice_goes_before_a_script_that_is_beyond_us()
    {
        Assert.Equal("/k", Menu("menuentry x { linux /k }\ngptprio.next -d usr").Choose("x").Kernel.Path);
    }

    [Fact]
    public void Loader_entries_become_entries_with_GRUB_s_variables_filled_in_the_newest_first()
    {
        MemoryFiles files = new()
        {
            ["/grub2/grub.cfg"] = "load_env\nset default=\"${saved_entry}\"\nif [ -z \"${kernelopts}\" ]; then\n set kernelopts=\"root=/dev/mapper/fallback ro\"\nfi\nset tuned_params=\"\"\ninsmod blscfg\nblscfg\n",
            ["/grub2/grubenv"] = "# GRUB Environment Block\nkernelopts=root=/dev/mapper/cs-root ro crashkernel=auto\n#####",
            ["/loader/entries/0123456789abcdef0123456789abcdef-4.18.0-80.el8.x86_64.conf"] = "title CentOS (4.18.0-80)\nversion 4.18.0-80.el8.x86_64\nlinux /vmlinuz-80\ninitrd /initramfs-80.img $tuned_initrd\noptions $kernelopts $tuned_params\n",
            ["/loader/entries/0123456789abcdef0123456789abcdef-4.18.0-147.el8.x86_64.conf"] = "title CentOS (4.18.0-147)\nlinux /vmlinuz-147\ninitrd /initramfs-147.img $tuned_initrd\noptions $kernelopts $tuned_params\n",
            ["/loader/entries/0123456789abcdef0123456789abcdef-0-rescue.conf"] = "title rescue\nlinux /vmlinuz-rescue\n",
        };
        BootEntry entry = Menu(files).Choose(null);
        Assert.Equal("/vmlinuz-147", entry.Kernel.Path);
        Assert.Equal(["/initramfs-147.img"], entry.Initrds.Select(file => file.Path));
        Assert.Equal("root=/dev/mapper/cs-root ro crashkernel=auto", entry.Options);
        Assert.Equal(["CentOS (4.18.0-147)", "CentOS (4.18.0-80)", "rescue"], Menu(files).Names);

        files["/grub2/grubenv"] = "saved_entry=0123456789abcdef0123456789abcdef-4.18.0-80.el8.x86_64\n";
        entry = Menu(files).Choose(null);
        Assert.Equal("/vmlinuz-80", entry.Kernel.Path);
        Assert.Equal("root=/dev/mapper/fallback ro", entry.Options);
    }

    [Fact]
    public void An_entry_for_one_start_is_not_taken_as_nothing_is_written_back() =>
        Assert.Equal("/a", Menu("load_env -f /grub/once\nif [ \"${next_entry}\" ]; then set default=\"${next_entry}\"; fi\n" + Kernels).Choose(null).Kernel.Path);

    [GrubFact]
    public void What_grub_script_check_takes_is_taken_and_what_it_refuses_is_not()
    {
        string[] texts =
        [
            "menuentry x { linux /k }", "menuentry x {\nlinux /k\n}", "if true; then true; fi", "if true\nthen\ntrue\nelse\nfalse\nfi", "if true; then", "fi", "menuentry x {", "}", "echo 'a", "echo \"a",
            "for i in 1 2; do echo $i; done", "for i in; do true; done", "while false; do true; done", "until true; do true; done", "function f { true; }; f", "function f\n{\ntrue\n}\nf", "a=1; b=2", "echo a | cat", "echo a & b",
            "if true; then true; elif false; then true; else true; fi", "submenu a { menuentry b { true; } }", "! true", "echo done", "echo if then fi", "set a=\"b;c\" # d", "do", "done", "then", "menuentry x { true; } }",
            "echo a\\\nb", "echo ${a}", "echo $\"a\"", "echo '$'", "if [ a = b ] ; then true ; fi", "{ true; }", "echo a>b", "true {", "hiddenentry a { true; }", "if true; then true; else", "while true; do", "function", "for x", "for x in a",
            "menuentry 'x'{ true; }", "menuentry x {true}", "menuentry x {true; }", "function f{ true; }; f", "echo a{b}", "echo {a,b}", "linux /k a={b}", "echo a}b", "echo a{b", "echo ${a}b", "echo [[a", "echo case",
        ];

        // GRUB is stricter where nothing depends on it: empty bodies, a "}" behind a function's words, a lone "$", empty commands.
        string file = Path.GetTempFileName();
        List<string> differences = [];
        foreach (string text in texts)
        {
            File.WriteAllText(file, text + "\n");
            using Process process = Process.Start(new ProcessStartInfo("/usr/bin/grub-script-check", [file]) { RedirectStandardError = true })!;
            bool isTaken = !process.StandardError.ReadToEnd().Contains("yntax error", StringComparison.Ordinal);
            process.WaitForExit();
            if (isTaken != (GrubScript.Parse(text + "\n", out string? error) != null))
            {
                differences.Add($"{text.ReplaceLineEndings("|")}: grub-script-check {(isTaken ? "takes it" : "refuses it")}, Tutti: {error ?? "takes it"}");
            }
        }

        File.Delete(file);
        Assert.True(differences.Count == 0, string.Join('\n', differences));
    }

    [Fact]
    [Trait("Category", "Fuzz")]
    public void Random_scripts_end_with_an_entry_or_one_line()
    {
        string[] words =
        [
            "menuentry", "submenu", "if", "then", "else", "elif", "fi", "while", "until", "for", "in", "do", "done", "function", "f", "{", "}", "\n", ";", " ", "'", "\"", "$a", "${a}", "\\", "#", "set a=", "a=$a$a", "[", "]", "!", "-a", "-o", "(", ")",
            "linux /k", "initrd /i", "x", "--id", "configfile /grub/grub.cfg", "source /grub/self.cfg", "blscfg", "load_env", "search --set=root --file /k", "export a", "eval $a", "break", "return", "default=1>1", "true", "|", "1", "=", "-s /grub",
        ];
        Fuzz.Run(3000, random =>
        {
            MemoryFiles files = new()
            {
                ["/grub/grub.cfg"] = string.Join(random.Next(3) == 0 ? "" : " ", Enumerable.Range(0, random.Next(1, 60)).Select(_ => words[random.Next(words.Length)])),
                ["/grub/self.cfg"] = "source /grub/self.cfg\na=$a$a\n",
                ["/loader/entries/x-1-2.conf"] = "linux /k $a\ninitrd /i $b\noptions ' $a \"\n",
                ["/k"] = "k",
            };
            try
            {
                foreach (GrubMenu menu in GrubMenu.FindAll(MemoryFiles.Disk(files), files.Budget))
                {
                    _ = menu.Names;
                    menu.Choose(random.Next(2) == 0 ? null : "1>0");
                }
            }
            catch (ImageException)
            {
            }
        });
    }

    private static GrubMenu Menu(string text) => Menu(new MemoryFiles
    {
        ["/grub/grub.cfg"] = text,
        ["/grub/grubenv"] = "# GRUB Environment Block\nsaved_entry=B\nother=x\n####",
        ["/grub/other"] = "saved_entry=more>E\n",
        ["/grub/once"] = "next_entry=B\n",
        ["/grub/more.cfg"] = "set default=1\n",
        ["/grub/self.cfg"] = "source /grub/self.cfg\n",
    });

    private static GrubMenu Menu(MemoryFiles files) =>
        GrubMenu.FindAll(MemoryFiles.Disk(files, new MemoryFiles { Uuid = "u-2", Label = "TWO" }), files.Budget).Single();

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class GrubFactAttribute : FactAttribute
    {
        public GrubFactAttribute() => Skip = File.Exists("/usr/bin/grub-script-check") ? null : "grub-script-check is not installed (Debian: grub-common)";
    }
}
