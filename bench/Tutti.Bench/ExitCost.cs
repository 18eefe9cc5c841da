using System.Diagnostics;
using System.Globalization;
using Iced.Intel;
using Tutti.Cpu;
using Tutti.Cpu.Kvm;
using Tutti.Devices;
using Tutti.Machine;
using Tutti.Memory;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Bench;

/// <summary>
/// What it costs to leave a guest and come back: the same guest under a machine of Tutti's, through its bus to a device,
/// and under a C program that does nothing else (exit_loop.c).
/// </summary>
internal sealed class ExitCost : IDisposable
{
    private const ushort MarkPort = 0xF5;
    private const ushort DevicePort = 0x510;
    private const ulong DeviceAddress = 0xD000_0000;
    private const ulong CodeAddress = 0x1000;
    private const int Exits = 20_000;

    private readonly string _program;

    private ExitCost(string program) => _program = program;

    /// <summary>Compiles the C program; null, with the reason on the console, where that or KVM is not to be had.</summary>
    internal static ExitCost? TryCreate()
    {
        try
        {
            _ = new KvmEngine().MaxProcessors;
        }
        catch (KvmUnavailableException e)
        {
            Console.WriteLine($"  not measured: {e.Message}");
            return null;
        }

        string source = Path.Combine(GuestRun.RepositoryRoot(), "bench/Tutti.Bench/exit_loop.c");
        string program = Path.Combine(Path.GetTempPath(), $"tutti-exit-loop-{Environment.ProcessId}");
        try
        {
            using Process compiler = Process.Start("cc", ["-O2", "-o", program, source]);
            compiler.WaitForExit();
            if (compiler.ExitCode == 0)
            {
                return new ExitCost(program);
            }

            Console.WriteLine("  not measured: the C compiler failed on exit_loop.c (it needs the kernel's headers: linux-libc-dev)");
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Console.WriteLine("  not measured: there is no C compiler (cc) for the program to compare with");
        }

        return null;
    }

    /// <summary>Nanoseconds an exit through a machine's bus.</summary>
    internal static double Ours(bool isMmio)
    {
        VirtualMachine? running = null;
        Marker marker = new(() => running!.Stop());
        using VirtualMachine machine = new(new MachineOptions
        {
            MemorySize = 1 << 20,
            Engine = new KvmEngine(),
            AddDevices = (ports, mmio) =>
            {
                Device device = new();
                ports.Map(MarkPort, 1, marker);
                ports.Map(DevicePort, 1, device);
                mmio.Map(DeviceAddress, 0x1000, device);
            },
            Boot = memory => Boot(memory, Guest(isMmio)),
        });
        running = machine;
        MachineExit exit = machine.Run(TimeSpan.FromMinutes(2));
        return exit.Kind == MachineExitKind.Stopped && marker.IsComplete
            ? marker.Nanoseconds / Exits
            : throw new InvalidOperationException($"The guest ended with {exit}.");
    }

    /// <summary>Nanoseconds an exit in the C program.</summary>
    internal double Theirs(bool isMmio)
    {
        using Process process = Process.Start(new ProcessStartInfo(_program, [Convert.ToHexString(Guest(isMmio))])
        {
            RedirectStandardOutput = true,
        })!;
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0
            ? double.Parse(text, CultureInfo.InvariantCulture) / Exits
            : throw new InvalidOperationException($"exit_loop ended with status {process.ExitCode}.");
    }

    public void Dispose() => File.Delete(_program);

    /// <summary>A mark, the exits to be measured, and a mark.</summary>
    private static byte[] Guest(bool isMmio)
    {
        Assembler code = new(16);
        Label loop = code.CreateLabel();
        code.mov(dx, MarkPort);
        code.@out(dx, al);
        code.mov(dx, DevicePort);
        code.mov(ecx, Exits);
        code.Label(ref loop);
        if (isMmio)
        {
            code.mov(__byte_ptr[0], al);
        }
        else
        {
            code.@out(dx, al);
        }

        code.dec(ecx);
        code.jne(loop);
        code.mov(dx, MarkPort);
        code.@out(dx, al);
        code.hlt();
        using MemoryStream bytes = new();
        _ = code.Assemble(new StreamCodeWriter(bytes), CodeAddress);
        return bytes.ToArray();
    }

    private static ProcessorRegisters Boot(GuestMemory memory, byte[] code)
    {
        _ = memory.TryWrite(CodeAddress, code);
        ProcessorRegisters registers = new() { Rip = CodeAddress, Cr0 = 0x6000_0010 };
        for (int i = 0; i < registers.Segments.Length; i++)
        {
            ushort attributes = SegmentAttributes.Present | SegmentAttributes.NonSystem | SegmentAttributes.WritableOrReadable | SegmentAttributes.Accessed;
            registers.Segments[i] = i switch
            {
                1 => new SegmentRegister(0, 0, 0xFFFF, (ushort)(attributes | SegmentAttributes.Code)),
                3 => new SegmentRegister(0, DeviceAddress, 0xFFFF, attributes),
                _ => new SegmentRegister(0, 0, 0xFFFF, attributes),
            };
        }

        registers.Tr = new SegmentRegister(0, 0, 0xFFFF, SegmentAttributes.Present | 0xB);
        registers.Ldtr = new SegmentRegister(0, 0, 0xFFFF, SegmentAttributes.Present | 2);
        registers.IdtLimit = 0x3FF;
        registers.Dr[6] = 0xFFFF_0FF0;
        registers.Dr[7] = 0x400;
        // FCW and MXCSR after reset.
        registers.FxState[0] = 0x40;
        registers.FxState[24] = 0x80;
        registers.FxState[25] = 0x1F;
        return registers;
    }

    /// <summary>Takes bytes.</summary>
    private sealed class Device : IPortDevice, IMmioDevice
    {
        private byte _value;

        public IoResult ReadPort(ushort offset, Span<byte> data) => Read(data);

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data) => Write(data);

        public IoResult ReadMmio(ulong offset, Span<byte> data) => Read(data);

        public IoResult WriteMmio(ulong offset, ReadOnlySpan<byte> data) => Write(data);

        private IoResult Read(Span<byte> data)
        {
            data.Fill(_value);
            return IoResult.Ok;
        }

        private IoResult Write(ReadOnlySpan<byte> data)
        {
            _value = data[0];
            return IoResult.Ok;
        }
    }

    /// <summary>Takes the time of each write; the second one ends the measurement.</summary>
    private sealed class Marker(Action onEnd) : IPortDevice
    {
        private readonly long[] _times = new long[2];
        private int _count;

        internal double Nanoseconds => Stopwatch.GetElapsedTime(_times[0], _times[1]).TotalNanoseconds;

        internal bool IsComplete => _count == 2;

        public IoResult ReadPort(ushort offset, Span<byte> data) => IoResult.Unclaimed;

        public IoResult WritePort(ushort offset, ReadOnlySpan<byte> data)
        {
            if (!IsComplete)
            {
                _times[_count++] = Stopwatch.GetTimestamp();
            }

            if (IsComplete)
            {
                onEnd();
            }

            return IoResult.Ok;
        }
    }
}
