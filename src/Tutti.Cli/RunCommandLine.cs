using System.CommandLine;
using Tutti.Guests;
using Tutti.Host;
using Tutti.X86;

namespace Tutti.Cli;

/// <summary>The options of <c>tutti run</c>.</summary>
internal static class RunCommandLine
{
    internal static readonly string Help =
        $"""
        MODEL is one of
        {string.Join('\n', CpuModel.All.Select(model => $"  {model.Name,-11}{model.Description}"))}
        F is a feature as /proc/cpuinfo names it: host,-avx2 or x86-64-v2,+aes. What needs it goes with it; what it needs comes with it.
        SIZE is a number with K, M, G or T (powers of 1024); a bare number is MiB.
        T is a number with ms, s, m or h; a bare number is seconds.
        """;

    internal static Command Create(ImageCatalog catalog)
    {
        Argument<string?> image = new("IMAGE")
        {
            HelpName = "IMAGE|DISK",
            Description = $"The image to run, {ImageCatalog.DefaultImage} when nothing is named; or a disk with Linux on it, whose own kernel is started.",
            Arity = ArgumentArity.ZeroOrOne,
        };
        image.CompletionSources.Add(_ => ImageCatalog.Names);
        Option<string?> kernel = CommandLine.Text("--kernel", "FILE", "Boot this bzImage, vmlinux or unified kernel image instead of an image's kernel.");
        Option<string?> initrd = CommandLine.Text("--initrd", "FILE", "Initial RAM disk; takes the place of the image's.");
        Option<string?> append = CommandLine.Text("--append", "STR", $"Words behind the kernel command line (\"{RunCommand.DefaultCommandLine}\" without an image).");
        Option<string?> bootEntry = CommandLine.Text("--boot-entry", "ENTRY", "Start this entry of the disk's boot menu, by number or title, instead of its default; an unknown one lists them.");
        Option<string[]> disk = CommandLine.Texts("--disk", DiskOption.Form, "Give the guest this disk; as often as there are disks.");
        Option<string?> net = CommandLine.Text("--net", "NET", $"What the guest's network card is plugged into: none; user[,OPTION] for this host's networks; tap=NAME[,OPTION] for a TAP device; {RunOptions.DefaultNetwork} when not given.");
        Option<string[]> publish = CommandLine.Texts("--publish", "[IP:]PORT:PORT[/udp]", "Lead a port of this host to one of the guest; as often as there are ports.");
        publish.Aliases.Add("-p");
        Option<string?> console = CommandLine.Text("--console", "KIND", $"Which of the guest's consoles this terminal is: serial for ttyS0, virtio for hvc0, which follows the window's size; {RunOptions.DefaultConsole} when not given.");
        console.CompletionSources.Add(_ => RunOptions.ConsoleKinds);
        Option<bool> consoleFilter = new("--console-filter") { Description = "Let only text, colours and cursor moves of the guest's through to this terminal: no titles, clipboard, requests that it answers, or new meanings of keys." };
        Option<string?> name = CommandLine.Text("--name", "NAME", "The machine, whose disk is kept under this name; the image's name when not given.");
        Option<bool> fresh = new("--fresh") { Description = "Throw away what the machine's disk holds, and start from the image." };
        Option<string?> diskSize = CommandLine.Text("--disk-size", "SIZE", "Size of a new machine's disk; the guest grows its file system at its first start.");
        Option<string?> hostName = CommandLine.Text("--hostname", "NAME", "The guest's host name.");
        Option<string?> user = CommandLine.Text("--user", "NAME", "Make this user in the guest, who may use sudo.");
        Option<string[]> sshKey = CommandLine.Texts("--ssh-key", "FILE|KEY", "Let the holder of this public key in by ssh; as often as there are keys.");
        Option<string?> userData = CommandLine.Text("--user-data", "FILE", "Give this file to cloud-init in the guest.");
        Option<string?> memory = CommandLine.Text("--memory", "SIZE", $"Guest memory, {RunOptions.MinMemory >> 20}M or more; {RunOptions.DefaultMemory} when not given.");
        Option<string?> cpus = CommandLine.Text("--cpus", "N", "Virtual processors; 1 when not given.");
        Option<string?> cpu = CommandLine.Text("--cpu", "MODEL[,+F][,-F]", $"What the processors show of themselves, with single features more or less; {CpuModel.Host} when not given.");
        cpu.CompletionSources.Add(_ => CpuModel.All.Select(model => model.Name));
        Option<string?> engine = CommandLine.Text("--engine", "NAME", $"What runs the guest's code: {string.Join(", ", Engines.Names)}; {Engines.Auto} when not given, which takes kvm where that runs guests at hardware speed.");
        engine.CompletionSources.Add(_ => Engines.Names);
        Option<string?> timeout = CommandLine.Text("--timeout", "T", "End the run this time after the program's start, with status 124; fetching an image counts in.");
        Option<bool> noReboot = new("--no-reboot") { Description = "End when the guest resets itself, with status 5." };
        Option<bool> verbose = new("--verbose") { Description = "Show at the end, on standard error, what the engine has counted." };
        Option<string?> trace = CommandLine.Text("--trace", "WHAT[,WHAT][:FILE]", $"Write down what the guest does: {string.Join(", ", TraceRequest.Names)}; on standard error without a file.");
        trace.CompletionSources.Add(_ => TraceRequest.Names);
        Command run = new("run", "Run a guest with its console on this terminal. Ctrl-A h shows the keys.")
        {
            image, kernel, initrd, append, bootEntry, disk, net, publish, console, consoleFilter, name, fresh, diskSize, hostName, user, sshKey, userData, memory, cpus, cpu, engine, timeout, noReboot, verbose, trace,
        };
        run.SetAction(async (result, _) =>
        {
            RunArguments words = new()
            {
                Image = result.GetValue(image),
                Kernel = result.GetValue(kernel),
                Initrd = result.GetValue(initrd),
                Append = result.GetValue(append),
                BootEntry = result.GetValue(bootEntry),
                Disks = result.GetValue(disk) ?? [],
                Network = result.GetValue(net),
                Publish = result.GetValue(publish) ?? [],
                Console = result.GetValue(console),
                FiltersConsole = result.GetValue(consoleFilter),
                Machine = new MachineArguments
                {
                    Name = result.GetValue(name),
                    IsFresh = result.GetValue(fresh),
                    DiskSize = result.GetValue(diskSize),
                    HostName = result.GetValue(hostName),
                    User = result.GetValue(user),
                    SshKeys = result.GetValue(sshKey) ?? [],
                    UserData = result.GetValue(userData),
                },
                Memory = result.GetValue(memory),
                Cpus = result.GetValue(cpus),
                Cpu = result.GetValue(cpu),
                Engine = result.GetValue(engine),
                Timeout = result.GetValue(timeout),
                NoReboot = result.GetValue(noReboot),
                Verbose = result.GetValue(verbose),
                Trace = result.GetValue(trace),
            };
            return await RunAsync(words, catalog);
        });
        return run;
    }
    private static async Task<int> RunAsync(RunArguments words, ImageCatalog catalog)
    {
        if (!HostCpu.IsX64)
        {
            throw new UserException("this host is no x86-64 machine; the software engine needs one");
        }

        // Before files are opened, which may take for ever.
        using RunDeadline deadline = new(RunOptions.CheckTimeout(words.Timeout));
        using RunCommand command = new(RunOptions.Check(words, HostMemory.Read()), catalog, deadline);
        return await command.RunAsync();
    }
}
