using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Which ports code may use, and the ports themselves.</summary>
public sealed unsafe class PortAccess
{
    private readonly CpuState* _state;
    private readonly ICpuIo _io;
    private readonly Breakpoints _breakpoints;
    private readonly GuestPresence _presence;
    private readonly DescriptorTables _tables;

    internal PortAccess(CpuState* state, ICpuIo io, Breakpoints breakpoints, GuestPresence presence, DescriptorTables tables)
    {
        _state = state;
        _io = io;
        _breakpoints = breakpoints;
        _presence = presence;
        _tables = tables;
    }

    /// <summary>Checks IOPL and the I/O permission bitmap, and notes port breakpoints; false after #GP(0).</summary>
    public bool TryPassPort(ushort port, int size)
    {
        if (_state->IsProtected && (_state->IsVirtual8086 || _state->Cpl > _state->Iopl) && !TryPassBitmap(port, size))
        {
            return false;
        }

        _breakpoints.NotePort(port, size);
        return true;
    }

    /// <summary>Reads 1, 2 or 4 bytes; may wait for a device.</summary>
    public void ReadPort(ushort port, Span<byte> data)
    {
        _presence.Leave();
        _io.ReadPort(port, data);
        _presence.Reenter();
    }

    /// <summary>Writes 1, 2 or 4 bytes; may wait for a device.</summary>
    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        _presence.Leave();
        _io.WritePort(port, data);
        _presence.Reenter();
    }

    private bool TryPassBitmap(ushort port, int size)
    {
        // A 16-bit TSS has no bitmap.
        bool hasMap = (_state->Tr.Attributes & SegmentAttributes.TypeMask) is SystemDescriptorType.BusyTss or SystemDescriptorType.AvailableTss;
        if (!hasMap || _state->Tr.Limit < DescriptorTables.IoMapBase + 1)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadTable(_state->Tr.Base + DescriptorTables.IoMapBase, out ushort mapBase))
        {
            return false;
        }

        // Two bytes are read always, because a port's bits may straddle them.
        uint offset = (uint)mapBase + ((uint)port >> 3);
        if (offset + 1 > _state->Tr.Limit)
        {
            return Faults.Refuse(_state, ExceptionVector.GeneralProtection);
        }

        if (!_tables.TryReadTable(_state->Tr.Base + offset, out ushort bits))
        {
            return false;
        }

        int mask = ((1 << size) - 1) << (port & 7);
        return (bits & mask) == 0 || Faults.Refuse(_state, ExceptionVector.GeneralProtection);
    }
}
