using System.Text.Json;
using Tutti.Boot;
using Tutti.Guests;
using Tutti.Host;

namespace Tutti.Cli.Tests;

/// <summary>Each thing that a user can get wrong: one line that names it, status 2, nothing on standard output, nothing left behind.</summary>
public sealed class BadInputTests : IDisposable
{
    private readonly TuttiProcess _tutti = new();

    public void Dispose() => _tutti.Dispose();

    [Theory]
    [InlineData("--memory", "1", "too small")]
    [InlineData("--memory", "63M", "too small")]
    [InlineData("--memory", "900T", "more than this host has")]
    [InlineData("--memory", "lots", "no size")]
    [InlineData("--cpus", "0", "--cpus")]
    [InlineData("--cpus", "100000", "--cpus")]
    [InlineData("--cpus", "two", "--cpus")]
    [InlineData("--engine", "xen", "no engine 'xen'")]
    [InlineData("--cpu", "486", "no CPU model '486'; models: host, x86-64-v2, x86-64-v3")]
    [InlineData("--cpu", "host,+avx9", "no CPU feature 'avx9'")]
    [InlineData("--cpu", "host,avx", "'avx' is no change of a CPU model; write +FEATURE or -FEATURE")]
    [InlineData("--cpu", "host,+avx2,-avx", "avx2 needs avx, which can't be taken away")]
    [InlineData("--console", "vga", "no console 'vga'; consoles: serial, virtio")]
    [InlineData("--timeout", "0", "no time above 0")]
    [InlineData("--timeout", "soon", "no time above 0")]
    [InlineData("--append", "a\nb", "printable ASCII")]
    [InlineData("--boot-entry", "0", "--boot-entry goes with a disk")]
    [InlineData("--kernel", "/no/such/file", "does not exist")]
    [InlineData("--kernel", "/", "is a folder")]
    [InlineData("--initrd", "/no/such/file", "does not exist")]
    [InlineData("--kernel", "/dev/null", "is empty")]
    [InlineData("--kernel", "/dev/zero", "does not fit")]
    [InlineData("--bogus", "x", "--bogus")]
    [InlineData("-x", "y", "-x")]
    [InlineData("nosuchimage", "--no-reboot", "no image 'nosuchimage'")]
    [InlineData("debian", "extra", "extra")]
    public void WrongWordOfRun(string first, string second, string expected) => CheckRefused(expected, "run", first, second);

    [Fact]
    public void MissingValue() => CheckRefused("--memory", "run", "--memory");

    [Fact]
    public void UnknownCommand() => CheckRefused("frobnicate", "frobnicate");

    [Fact]
    public void NoCommand() => CheckRefused("name a command");

    [Fact]
    public void ImageAndKernelTogether() =>
        CheckRefused("not both", "run", "debian", "--kernel", _tutti.MakeFile("kernel", new byte[4096]));

    [Fact]
    public void EmptyKernel() => CheckRefused("is empty", "run", "--kernel", _tutti.MakeFile("kernel", []));

    [Fact]
    public void FileThatShrinksBetweenBootsIsToldByName()
    {
        string path = _tutti.MakeFile("kernel", [1, 2, 3]);
        using InputFile file = InputFile.Open("--kernel", path, 4096);
        Assert.Equal([1, 2, 3], file.Read(out HostBuffer? buffer).ToArray());
        ((IDisposable)buffer!).Dispose();

        File.WriteAllBytes(path, [1, 2]);

        Assert.Contains($"'{path}' has become shorter", Assert.Throws<BootException>(() => file.Read(out _)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FileThatIsNoKernel() =>
        CheckRefused("kernel", "run", "--kernel", _tutti.MakeFile("kernel", "#!/bin/sh\necho not a kernel\n"u8.ToArray()));

    [Fact]
    public void KernelForAnotherArchitecture()
    {
        byte[] elf = new byte[4096];
        "\u007fELF"u8.CopyTo(elf);
        elf[4] = 2;
        elf[5] = 1;
        elf[6] = 1;
        elf[16] = 2;
        elf[18] = 0xB7; // EM_AARCH64
        CheckRefused("x86", "run", "--kernel", _tutti.MakeFile("kernel", elf));
    }

    [Fact]
    public void UnreadableKernel()
    {
        string path = _tutti.MakeFile("kernel", new byte[4096]);
        File.SetUnixFileMode(path, UnixFileMode.None);
        if (Environment.IsPrivilegedProcess)
        {
            // root may read all; the message of the same branch comes from a name that nobody can open.
            CheckRefused("cannot be", "run", "--kernel", new string('x', 300));
            return;
        }

        CheckRefused("may not be read", "run", "--kernel", path);
    }

    [Fact]
    public void ModelThatTheEngineCannotShow()
    {
        _tutti.HidesAvx = true;
        CheckRefused(
            "the software engine lacks FMA, AVX, ",
            "run", "--engine", "software", "--cpu", "x86-64-v3", "--memory", "64M", "--kernel", _tutti.MakeFile("kernel", new TinyKernel().PowerOff().ToFile()));
    }

    [Fact]
    public void FeatureThatTheEngineLacks() => CheckRefused(
        "the software engine lacks SVM: the CPU model x86-64-v2,+svm needs it; choose another with --cpu",
        "run", "--engine", "software", "--cpu", "x86-64-v2,+svm", "--memory", "64M", "--kernel", _tutti.MakeFile("kernel", new TinyKernel().PowerOff().ToFile()));

    [Fact]
    public void MoreMemoryThanTheModelHasAddressesFor()
    {
        RunArguments words = new() { Engine = "software", Memory = "511G", Cpu = "x86-64-v2", Kernel = _tutti.MakeFile("kernel", [1]) };
        HostMemory large = new(4L << 40, 4L << 40);
        Assert.Equal(511L << 30, RunOptions.Check(words, large).MemorySize);
        Assert.Equal(512L << 30, RunOptions.Check(words with { Memory = "512G", Cpu = "host" }, large).MemorySize);
        UserException refusal = Assert.Throws<UserException>(() => RunOptions.Check(words with { Memory = "512G" }, large));
        Assert.Equal("--memory 512G is more than x86-64-v2 has addresses for (512 GiB); give less, or --cpu host", refusal.Message);
    }

    [Fact]
    public void UnknownImages()
    {
        CheckRefused("nosuchimage", "image", "pull", "nosuchimage");
        CheckRefused("not in the cache", "image", "rm", "debian");
    }

    [Fact]
    public void UnknownShell() => CheckRefused("no completion for 'tcsh'", "completion", "tcsh");

    [Fact]
    public void HelpListsTheExitStatuses()
    {
        (int status, string output, string error) = _tutti.Run("--help");
        Assert.Equal((0, string.Empty), (status, error));
        foreach (string word in new[] { "Exit status", "  3  ", "  4  ", "  124  ", "143", "run", "image", "doctor", "version", "completion" })
        {
            Assert.Contains(word, output);
        }
    }

    [Fact]
    public void VersionAndImageListAreValidJson()
    {
        using JsonDocument version = JsonDocument.Parse(_tutti.Run("version", "--json").Output);
        Assert.Equal(["kvm", "software"], version.RootElement.GetProperty("engines").EnumerateArray().Select(e => e.GetString()));
        using JsonDocument images = JsonDocument.Parse(_tutti.Run("image", "list", "--json").Output);
        Assert.Equal("debian", images.RootElement[0].GetProperty("name").GetString());
        Assert.False(images.RootElement[0].GetProperty("cached").GetBoolean());
        Assert.Contains("not pulled", _tutti.Run("image", "list").Output);
    }

    [Theory]
    [InlineData("run --en", "--engine")]
    [InlineData("run --engine ", "software")]
    [InlineData("run --cpu ", "x86-64-v2")]
    [InlineData("run --console ", "virtio")]
    [InlineData("run --engine ", "kvm")]
    [InlineData("run ", "debian")]
    [InlineData("doc", "doctor")]
    [InlineData("doctor --j", "--json")]
    [InlineData("image ", "pull")]
    [InlineData("completion ", "zsh")]
    public void CompletionKnowsWhatFollows(string line, string expected)
    {
        (int status, string output, _) = _tutti.Run($"[suggest:{line.Length}]", line);
        Assert.Equal(0, status);
        Assert.Contains(expected, output.Split('\n'));
    }

    private void CheckRefused(string expected, params string[] args)
    {
        (int status, string output, string error) = _tutti.Run(args);
        Assert.Equal(2, status);
        Assert.Equal(string.Empty, output);
        Assert.StartsWith("tutti: ", error);
        Assert.Equal(error.Length - 1, error.IndexOf('\n', StringComparison.Ordinal));
        Assert.Contains(expected, error, StringComparison.OrdinalIgnoreCase);
        Assert.False(Directory.Exists(_tutti.Cache), "a cache folder was left behind");
    }
}
