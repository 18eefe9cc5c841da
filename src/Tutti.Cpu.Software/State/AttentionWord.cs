using Tutti.Host;

namespace Tutti.Cpu.Software;

/// <summary>
/// The word by which anybody stops a vCPU between two blocks, or wakes it: <see cref="CpuState.Attention"/>, which handlers and
/// emitted code read, and the event that a halted vCPU waits for.
/// </summary>
public sealed unsafe class AttentionWord : IDisposable
{
    private readonly CpuState* _state;

    /// <summary>Where the word lies: other threads may still ask when the machine has gone, and it lives as long as they hold this.</summary>
    private readonly HostMapping _native;

    private readonly HostEvent _wake = new();
    private TracedProcess? _outside;

    internal AttentionWord(CpuState* state, HostMapping native)
    {
        _state = state;
        _native = native;
    }

    /// <summary>
    /// The process in which guest code runs while the vCPU's thread waits for it: every request stops it. Set before a last look at the word, so that no
    /// request is missed.
    /// </summary>
    public TracedProcess? Outside
    {
        get => Volatile.Read(ref _outside);
        set
        {
            Volatile.Write(ref _outside, value);
            Interlocked.MemoryBarrier();
        }
    }

    /// <summary><see cref="Attention"/> bits.</summary>
    internal int Value => Volatile.Read(ref _state->Attention);

    /// <summary>Sets bits on the vCPU's own thread.</summary>
    internal void Set(int bits) => Interlocked.Or(ref _state->Attention, bits);

    internal void Clear(int bits) => Interlocked.And(ref _state->Attention, ~bits);

    /// <summary>Sets bits from any thread and wakes the vCPU when it is halted.</summary>
    public void Signal(int bits)
    {
        int before = Interlocked.Or(ref _state->Attention, bits);
        for (int i = 0; i < _state->PollMaskCount; i++)
        {
            Volatile.Write(ref _state->PollMasks[i], 0);
        }

        if ((before & Attention.Halted) != 0)
        {
            _wake.Signal();
        }

        Outside?.Interrupt();

        GC.KeepAlive(_native);
    }

    /// <summary>Waits, halted, until something but a step asks for attention.</summary>
    internal void Wait()
    {
        while ((Value & ~(Attention.Halted | Attention.Step)) == 0)
        {
            _wake.Wait(-1);
        }
    }

    public void Dispose() => _wake.Dispose();
}
