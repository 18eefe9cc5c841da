using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>
/// What DR0 to DR3 and DR7 watch, and which of them the running instruction has hit. Source: Intel SDM volume 3, chapter "Debug".
/// </summary>
internal sealed unsafe class Breakpoints
{
    private readonly CpuState* _state;

    /// <summary>B0 to B3 of data and port breakpoints that the running instruction has hit.</summary>
    private ulong _hits;

    public Breakpoints(CpuState* state)
    {
        _state = state;
    }

    /// <summary>B0 to B3 of what has been hit since the last <see cref="ForgetHits"/>.</summary>
    public ulong Hits => _hits;

    public void ForgetHits() => _hits = 0;

    public bool IsAnyEnabled => (_state->Dr[7] & Dr7.EnableMask) != 0;

    public bool IsAnyOnCode
    {
        get
        {
            ulong dr7 = _state->Dr[7];
            for (int i = 0; IsAnyEnabled && i < 4; i++)
            {
                if (Dr7.IsEnabled(dr7, i) && Dr7.Condition(dr7, i) == 0)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>B0 to B3 of the enabled breakpoints with one of two conditions that [address, address+size) touches.</summary>
    public ulong Find(ulong address, int size, int condition, int otherCondition)
    {
        ulong dr7 = _state->Dr[7];
        ulong hits = 0;
        for (int i = 0; i < 4; i++)
        {
            int wanted = Dr7.Condition(dr7, i);
            if (!Dr7.IsEnabled(dr7, i) || (wanted != condition && wanted != otherCondition))
            {
                continue;
            }

            ulong length = condition == 0 ? 1UL : (ulong)Dr7.Length(dr7, i);
            ulong start = _state->Dr[i] & ~(length - 1);
            start = _state->IsLongMode ? start : (uint)start;
            // Differences, so that the last page of the address space has an end.
            if (start - address < (ulong)size || address - start < length)
            {
                hits |= 1UL << i;
            }
        }

        return hits;
    }

    public void NoteAccess(ulong linear, int size, bool write)
    {
        if (IsAnyEnabled)
        {
            _hits |= Find(linear, size, 3, write ? 1 : 3);
        }
    }

    /// <summary>Port breakpoints, with CR4.DE.</summary>
    public void NotePort(ushort port, int size)
    {
        if (IsAnyEnabled && (_state->Cr4 & Cr4.DebuggingExtensions) != 0)
        {
            _hits |= Find(port, size, 2, 2);
        }
    }

    /// <summary>Whether a data breakpoint lies in the page, so that accesses to it must take the slow path.</summary>
    public bool IsWatched(ulong linear) =>
        IsAnyEnabled && Find(linear & ~0xFFFUL, 4096, 3, 1) != 0;
}
