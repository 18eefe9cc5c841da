using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Tutti.Boot;
using Tutti.Devices.Pci;
using Tutti.Guests;
using Tutti.Machine;
using Tutti.Virtio;
using Tutti.Virtio.Console;
using Tutti.Virtio.Entropy;
using Tutti.Virtio.Pci;
using Tutti.Workers;

namespace Tutti.Guest.Tests;

/// <summary>The virtio transport, the entropy device and the console as the stock kernel's drivers use them.</summary>
[Collection("guests")]
public class VirtioTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);

    [DebianFact]
    public Task The_kernel_draws_random_bytes_and_talks_on_hvc0_with_messages() => UseDevicesAsync("", "MSI");

    [DebianFact]
    public Task The_kernel_draws_random_bytes_and_talks_on_hvc0_with_interrupt_lines() => UseDevicesAsync("pci=nomsi", "IO-APIC");

    private static async Task UseDevicesAsync(string kernelOptions, string controller)
    {
        GuestImage image = await new ImageCatalog().GetAsync(ImageCatalog.DefaultImage);
        List<Exception> failures = [];
        using EventLoop loop = new("virtio", failures.Add);
        Pipe serial = new();
        Pipe terminal = new();
        VirtioConsoleCable cable = new(terminal, failures.Add);
        cable.Resize(70, 20);
        using VirtualMachine machine = new(new MachineOptions
        {
            MemorySize = 512 << 20,
            ProcessorCount = 2,
            Engine = MachineEngines.Software,
            Console = serial,
            NoReboot = true,
            Boot = MachineOptions.BootLinux(new BootOptions
            {
                Kernel = File.ReadAllBytes(image.KernelPath),
                Initrd = Initrd(image),
                CommandLine = $"{image.CommandLine} {kernelOptions}",
                ProcessorCount = 2,
            }),
            PciFunctions =
            [
                services => Function(services, new VirtioRng(new HostEntropy(), loop, services.Clock)),
                services => Console(services, loop, cable),
            ],
        });
        Task<MachineExit> run = Task.Run(() => machine.Run(Patience));
        try
        {
            Assert.Contains("virtio_rng", serial.Run("cat /sys/class/misc/hw_random/rng_current"), StringComparison.Ordinal);
            Assert.Equal("4096", serial.Run("head -c 4096 /dev/hwrng > /tmp/a; stat -c %s /tmp/a"));
            Assert.Equal("different", serial.Run("head -c 4096 /dev/hwrng > /tmp/b; cmp -s /tmp/a /tmp/b || echo different"));
            Assert.Equal("", serial.Run("exec 3<> /dev/hvc0; stty -F /dev/hvc0 raw -echo"));
            Assert.Equal("", serial.Run("for i in $(seq 2000); do echo line $i; done > /dev/hvc0"));
            terminal.Expect(string.Concat(Enumerable.Range(1, 2000).Select(i => $"line {i}\n")));
            terminal.Send("good day\n");
            Assert.Equal("<good day>", serial.Run("read -r line <&3; echo \"<$line>\""));

            // The driver reads the size when it is told of a change: here of the first as it could take it.
            Assert.Equal("20 70", serial.Run("sleep 1; stty -F /dev/hvc0 size"));
            cable.Resize(90, 30);
            Assert.Equal("30 90", serial.Run("sleep 1; stty -F /dev/hvc0 size"));

            string interrupts = serial.Run("grep virtio /proc/interrupts");
            Assert.Contains(controller, interrupts, StringComparison.Ordinal);
            Assert.Empty(GuestSession.Complaints(serial.Run("dmesg")));
            serial.Send("poweroff -f\n");
            Assert.Equal(MachineExitKind.PoweredOff, (await run).Kind);
        }
        finally
        {
            machine.Stop();
            cable.End(TimeSpan.FromSeconds(5));
        }

        Assert.Empty(failures);
    }

    private static byte[] Initrd(GuestImage image)
    {
        byte[] first = File.ReadAllBytes(image.InitrdPath);
        byte[] padding = new byte[-first.Length & 3];
        return [.. first, .. padding, .. image.ModulesPath == null ? [] : File.ReadAllBytes(image.ModulesPath)];
    }

    private static PciFunction Function(BoardServices services, VirtioDevice device) =>
        new VirtioPciFunction(device, services.Memory, services.Doorbells, services.ChipsetLock);

    private static PciFunction Console(BoardServices services, EventLoop loop, VirtioConsoleCable cable)
    {
        VirtioConsole console = new(cable, loop, services.Clock);
        cable.Connect(console);
        return Function(services, console);
    }

    /// <summary>A console whose other end is the test.</summary>
    private sealed class Pipe : IConsoleBackend
    {
        private readonly BlockingCollection<byte[]> _input = [];
        private readonly StringBuilder _output = new();
        private bool _hasShell;
        private int _seen;

        public int Read(Span<byte> buffer)
        {
            if (!_input.TryTake(out byte[]? bytes, Timeout.Infinite))
            {
                return 0;
            }

            bytes.CopyTo(buffer);
            return bytes.Length;
        }

        public bool Write(ReadOnlySpan<byte> bytes)
        {
            lock (_output)
            {
                _ = _output.Append(Encoding.Latin1.GetString(bytes));
            }

            return true;
        }

        public void CancelRead() => _input.CompleteAdding();

        public void CancelWrite()
        {
        }

        internal void Send(string text) => _input.Add(Encoding.ASCII.GetBytes(text));

        internal string Run(string command)
        {
            if (!_hasShell)
            {
                Expect(GuestSession.Prompt);
                Send("stty cols 2000\n");
                Expect(GuestSession.Prompt);
                _hasShell = true;
            }

            Send(command + "; echo status=$?\n");
            Expect("status=$?");
            int from = _seen;
            Expect("\nstatus=");
            string printed = Text()[from.._seen];
            Expect(GuestSession.Prompt);
            return printed[..printed.LastIndexOf("\nstatus=", StringComparison.Ordinal)].Replace("\r", "", StringComparison.Ordinal).Trim('\n', ' ');
        }

        internal void Expect(string text)
        {
            Stopwatch watch = Stopwatch.StartNew();
            while (watch.Elapsed < Patience)
            {
                int at = Text().IndexOf(text, _seen, StringComparison.Ordinal);
                if (at >= 0)
                {
                    _seen = at + text.Length;
                    return;
                }

                Thread.Sleep(20);
            }

            Assert.Fail($"'{text}' did not come, but:\n{Text()}");
        }

        private string Text()
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }
}
