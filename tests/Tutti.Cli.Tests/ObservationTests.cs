using System.Text.RegularExpressions;
using Tutti.Cpu;
using Tutti.Machine;

namespace Tutti.Cli.Tests;

/// <summary><c>--verbose</c> and <c>--trace</c>: what was counted, what is written, and which words are refused.</summary>
public sealed class ObservationTests : IDisposable
{
    private readonly TuttiProcess _tutti = new();

    public void Dispose() => _tutti.Dispose();

    [Fact]
    public void Verbose_shows_what_was_counted_and_leaves_the_guests_output_alone()
    {
        (int status, string output, string error) = Run("--verbose");
        Assert.Equal((0, "hello"), (status, output));
        Assert.Matches(@"(?m)^blocks\n  decoded +[1-9]", error);
        Assert.Matches(@"(?m)^ports\n  0x3f8 +5\n  0x604 +1$", error);
    }

    [Fact]
    public void Nothing_is_shown_without_it() => Assert.Equal((0, "hello", string.Empty), Run());

    [Fact]
    public void A_trace_goes_to_its_file_a_line_an_event()
    {
        string file = Path.Combine(_tutti.Folder, "trace:1.txt");
        (int status, _, string error) = Run("--trace", $"ports:{file}");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        Assert.Equal((0, string.Empty), (status, error));
        string[] lines = File.ReadAllLines(file);
        Assert.All(lines, line => Assert.Matches(@"^\d+\.\d{6} ports (in|out) [0-9a-f]{4} [0-9a-f]+$", line));
        Assert.Equal("hello", string.Concat(lines.Select(line => Regex.Match(line, "out 03f8 (..)$")).Where(m => m.Success).Select(m => (char)Convert.ToByte(m.Groups[1].Value, 16))));
        Assert.EndsWith("out 0604 3400", lines[^1]);
    }

    [Fact]
    public void A_trace_without_a_file_goes_to_standard_error_and_may_have_several_kinds()
    {
        (int status, string output, string error) = Run("--trace", "ports,blocks");
        Assert.Equal((0, "hello"), (status, output));
        Assert.Contains(" ports out 03f8 68\n", error);
        Assert.Matches(@" blocks vCPU 0 rip [0-9a-f]{16} decoded \d+ instructions, \d+ bytes", error);
    }

    [Fact]
    public void Exceptions_are_traced_as_they_are_delivered()
    {
        (int status, _, string error) = _tutti.Run(["run", "--kernel", _tutti.MakeFile("kernel", new TinyKernel().TripleFault().ToFile()), "--memory", "64M", "--engine", "software", "--trace", "exceptions"]);
        Assert.Equal(4, status);
        Assert.Contains(" #UD\n", error);
        Assert.Contains(" #DF, error code 0\n", error);
    }

    [Theory]
    [InlineData("ports,bloks", "takes no 'bloks'; it takes blocks, exceptions, interrupts, ports, mmio, exits")]
    [InlineData("", "takes no ''")]
    [InlineData("ports,", "takes no ''")]
    [InlineData("none", "takes no 'none'")]
    [InlineData("Ports", "takes no 'Ports'")]
    [InlineData("ports:", "names no file behind its colon")]
    [InlineData("ports:/no/such/folder/file", "cannot write '/no/such/folder/file'")]
    public void A_wrong_trace_is_refused_in_one_line(string word, string expected)
    {
        (int status, string output, string error) = Run("--trace", word);
        Assert.Equal((2, string.Empty), (status, output));
        Assert.Contains(expected, error);
        Assert.Equal(1, error.Count(c => c == '\n'));
    }

    [Fact]
    public void What_an_engine_can_not_tell_is_refused_with_what_it_can()
    {
        UserException e = Assert.Throws<UserException>(() => TraceRequest.Parse("blocks", MachineEngines.Kvm));
        Assert.Contains("the engine kvm can't trace blocks; it can trace ports, mmio", e.Message);
        Assert.Equal(new TraceRequest(TraceKinds.Ports | TraceKinds.Mmio, "a:b"), TraceRequest.Parse("ports,mmio:a:b", MachineEngines.Kvm));
    }

    [Fact]
    public void Counters_of_several_processors_are_added_up_by_group_and_name()
    {
        EngineCounter[] counters = [new("a", "x", 1), new("b", "x", 2), new("a", "x", 10), new("a", "y", 5, "bytes")];
        Assert.Equal([new("a", "x", 11), new("a", "y", 5, "bytes"), new("b", "x", 2)], EngineCounter.Sum(counters));
    }

    [Fact]
    public void The_table_has_a_heading_for_each_group()
    {
        string table = CounterTable.Format([new("blocks", "decoded", 1234), new("blocks", "code", 7, "bytes"), new("ports", "0x3f8", 5)]);
        Assert.Equal("blocks\n  decoded  1,234\n  code         7 bytes\nports\n  0x3f8        5\n", table);
    }

    private (int Status, string Output, string Error) Run(params string[] options) => _tutti.Run(
        ["run", "--kernel", _tutti.MakeFile("kernel", new TinyKernel().Print("hello").PowerOff().ToFile()), "--memory", "64M", "--engine", "software", .. options]);
}
