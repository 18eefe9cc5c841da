namespace Tutti.Host;

/// <summary>
/// A process that runs only while its owner waits for it (ptrace), and ends with the owner's thread. Linux lets nobody but the thread that has started it
/// do anything to it; only <see cref="Interrupt"/> and <see cref="Dispose"/> are for any thread.
/// </summary>
public sealed unsafe class TracedProcess : IDisposable
{
    /// <summary>The descriptor that the process has of the file it was given.</summary>
    public const int KeptDescriptor = 3;

    /// <summary>The signal that <see cref="Interrupt"/> sends.</summary>
    public const int InterruptSignal = LibC.SIGUSR1;

    /// <summary>The signal of a breakpoint: SIGTRAP, with RIP at its instruction.</summary>
    public const int BreakpointSignal = 5;

    public const int BreakpointCount = 4;

    /// <summary>Larger than <c>posix_spawn_file_actions_t</c> of any C library.</summary>
    private const int ActionsSize = 512;

    private readonly Lock _lock = new();
    private bool _isReaped;
    private int _breakpoints;

    /// <summary>Starts a program, and stops it wherever it is by then.</summary>
    /// <param name="image">An ELF program without an interpreter.</param>
    /// <param name="kept">What it has as <see cref="KeptDescriptor"/>.</param>
    /// <exception cref="HostException">The host refuses, or forbids tracing.</exception>
    public TracedProcess(FileDescriptor image, int kept)
    {
        ArgumentNullException.ThrowIfNull(image);
        Id = Spawn(image.Number, kept);
        Thread = ThreadInterruption.CurrentThread;
        try
        {
            Trace(LibC.PTRACE_SEIZE, 0, LibC.PTRACE_O_EXITKILL | LibC.PTRACE_O_TRACESYSGOOD);
            Trace(LibC.PTRACE_INTERRUPT, 0, 0);
            TraceStop stop = Wait();
            if (stop.Kind == TraceStopKind.Ended)
            {
                throw new HostException("posix_spawn", LibC.EINVAL);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public int Id { get; }

    /// <summary>The thread that has started it, as <see cref="ThreadInterruption.CurrentThread"/> says.</summary>
    public int Thread { get; }

    /// <exception cref="HostException">The process is no more.</exception>
    public void GetRegisters(out TracedRegisters registers)
    {
        TracedRegisters got;
        // SAFETY: the struct has the kernel's layout and size.
        Trace(LibC.PTRACE_GETREGS, 0, (nint)(&got));
        registers = got;
    }

    /// <exception cref="HostException">The process is no more, or the kernel does not let user code have such values.</exception>
    public void SetRegisters(in TracedRegisters registers)
    {
        // SAFETY: the struct has the kernel's layout and size.
        fixed (TracedRegisters* set = &registers)
        {
            Trace(LibC.PTRACE_SETREGS, 0, (nint)set);
        }
    }

    /// <summary>Reads the state of x87 and vector units, an XSAVE area in the standard form; gives how many bytes it has.</summary>
    /// <exception cref="HostException">The process is no more.</exception>
    public int GetVectors(Span<byte> area)
    {
        // SAFETY: the kernel writes no more than the length that it is given.
        fixed (byte* bytes = area)
        {
            var vector = new TraceVector { Base = bytes, Length = (nuint)area.Length };
            Trace(LibC.PTRACE_GETREGSET, LibC.NT_X86_XSTATE, (nint)(&vector));
            return (int)vector.Length;
        }
    }

    /// <exception cref="HostException">The process is no more, or the kernel refuses the values.</exception>
    public void SetVectors(ReadOnlySpan<byte> area)
    {
        // SAFETY: the kernel reads no more than the length that it is given.
        fixed (byte* bytes = area)
        {
            var vector = new TraceVector { Base = bytes, Length = (nuint)area.Length };
            Trace(LibC.PTRACE_SETREGSET, LibC.NT_X86_XSTATE, (nint)(&vector));
        }
    }

    /// <summary>What is known of the signal that it has stopped for.</summary>
    /// <exception cref="HostException">The process is no more.</exception>
    public TraceFault GetFault()
    {
        // SAFETY: siginfo_t is 128 bytes.
        byte* info = stackalloc byte[128];
        Trace(LibC.PTRACE_GETSIGINFO, 0, (nint)info);
        return new TraceFault(*(int*)(info + 8), *(ulong*)(info + 16));
    }

    /// <summary>Stops the process before an instruction; the kernel says <see cref="BreakpointSignal"/>. The earlier address of that number is none any more.</summary>
    /// <param name="number">Below <see cref="BreakpointCount"/>.</param>
    /// <exception cref="HostException">The kernel refuses.</exception>
    public void SetBreakpoint(int number, ulong address)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(number);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(number, BreakpointCount);

        // DR7: enabled, for execution, one byte.
        Trace(LibC.PTRACE_POKEUSR, LibC.USER_DEBUGREG + (8 * 7), _breakpoints & ~(1 << (2 * number)));
        Trace(LibC.PTRACE_POKEUSR, LibC.USER_DEBUGREG + (8 * number), (nint)address);
        _breakpoints |= 1 << (2 * number);
        Trace(LibC.PTRACE_POKEUSR, LibC.USER_DEBUGREG + (8 * 7), _breakpoints);
    }

    /// <summary>Lets it run until it stops; its system calls are done.</summary>
    /// <exception cref="HostException">The process is no more.</exception>
    public TraceStop Run() => Go(LibC.PTRACE_CONT);

    /// <summary>Lets it run until it stops; none of its system calls is done, each stops it.</summary>
    /// <exception cref="HostException">The process is no more.</exception>
    public TraceStop RunWithoutCalls() => Go(LibC.PTRACE_SYSEMU);

    /// <summary>Stops it while it runs; where it does not, the next run ends at once.</summary>
    public void Interrupt() => Send(LibC.SIGUSR1);

    /// <summary>Has the process, as far as the host allows, run on no other processor than one.</summary>
    public void RunOn(int processor)
    {
        // SAFETY: cpu_set_t is 1,024 bits.
        ulong* mask = stackalloc ulong[16];
        if (processor is >= 0 and < 1024)
        {
            mask[processor >> 6] = 1UL << (processor & 63);
            _ = LibC.sched_setaffinity(Id, 128, mask);
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_isReaped)
            {
                return;
            }

            _ = LibC.kill(Id, LibC.SIGKILL);
            int status;
            while (LibC.waitpid(Id, &status, LibC.WALL) == Id && (status & 0xFF) == 0x7F)
            {
                // A stop that nobody has looked at yet.
            }

            _isReaped = true;
        }
    }

    private static int Spawn(int image, int kept)
    {
        // SAFETY: the buffer is larger than the structure, the strings end with a NUL, argv and envp with a null pointer.
        byte* actions = stackalloc byte[ActionsSize];
        byte** nothing = stackalloc byte*[1];
        nothing[0] = null;
        int pid = 0;
        int error = LibC.posix_spawn_file_actions_init(actions);
        if (error != 0)
        {
            throw new HostException("posix_spawn_file_actions_init", error);
        }

        try
        {
            error = LibC.posix_spawn_file_actions_adddup2(actions, kept, KeptDescriptor);
            if (error == 0)
            {
                byte[] path = System.Text.Encoding.ASCII.GetBytes($"/proc/self/fd/{image}\0");
                fixed (byte* name = path)
                {
                    error = LibC.posix_spawn(&pid, name, actions, null, nothing, nothing);
                }
            }
        }
        finally
        {
            _ = LibC.posix_spawn_file_actions_destroy(actions);
        }

        return error == 0 ? pid : throw new HostException("posix_spawn", error);
    }

    private TraceStop Go(nint request)
    {
        Trace(request, 0, 0);
        return Wait();
    }

    private TraceStop Wait()
    {
        int status;
        while (LibC.waitpid(Id, &status, LibC.WALL) != Id)
        {
            if (System.Runtime.InteropServices.Marshal.GetLastPInvokeError() != LibC.EINTR)
            {
                throw HostException.FromLastError("waitpid");
            }
        }

        if ((status & 0xFF) != 0x7F)
        {
            lock (_lock)
            {
                _isReaped = true;
            }

            return new TraceStop(TraceStopKind.Ended, status & 0x7F);
        }

        int signal = (status >> 8) & 0xFF;
        return (status >> 16) != 0 ? new TraceStop(TraceStopKind.Event, signal & 0x7F)
            : (signal & 0x80) != 0 ? new TraceStop(TraceStopKind.SystemCall, signal & 0x7F)
            : new TraceStop(TraceStopKind.Signal, signal);
    }

    private void Trace(nint request, nint address, nint data)
    {
        if (LibC.syscall(LibC.SYS_ptrace, request, Id, address, data, 0, 0) < 0)
        {
            throw HostException.FromLastError("ptrace");
        }
    }

    private void Send(int signal)
    {
        lock (_lock)
        {
            // Until it is reaped the number is no other process's.
            if (!_isReaped)
            {
                _ = LibC.kill(Id, signal);
            }
        }
    }
}
