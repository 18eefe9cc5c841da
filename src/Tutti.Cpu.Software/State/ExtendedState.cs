using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>The state beyond FXSAVE's in <see cref="ProcessorRegisters.ExtendedState"/>: an XSAVE area in the standard form.</summary>
public static unsafe class ExtendedState
{
    /// <summary>Components that are not in their initial state. x87 and SSE always count: the architecture lets them.</summary>
    // SAFETY: the upper halves are 256 bytes, here and below.
    public static ulong InUse(CpuState* state) =>
        XsaveLayout.X87 | XsaveLayout.Sse | (UpperHalves(state).ContainsAnyExcept((byte)0) ? XsaveLayout.Avx : 0)
        | (state->Pkru != 0 ? XsaveLayout.Pkru : 0);

    public static byte[] Export(CpuState* state)
    {
        byte[] area = new byte[XsaveLayout.SizeOf(XsaveLayout.Supported)];
        new ReadOnlySpan<byte>(state->FxArea, 512).CopyTo(area);
        BinaryPrimitives.WriteUInt64LittleEndian(area.AsSpan(XsaveLayout.Header), InUse(state));
        UpperHalves(state).CopyTo(area.AsSpan((int)XsaveLayout.AvxOffset));
        BinaryPrimitives.WriteUInt32LittleEndian(area.AsSpan((int)XsaveLayout.PkruOffset), state->Pkru);
        return area;
    }

    /// <summary>
    /// Takes the upper halves and PKRU; FXSAVE's part is not looked at. What the area does not have gets its initial state. Whoever calls
    /// drops the TLB.
    /// </summary>
    public static void Import(CpuState* state, byte[]? area)
    {
        ulong present = area != null && area.Length >= XsaveLayout.BaseSize ? MemoryMarshal.Read<ulong>(area.AsSpan(XsaveLayout.Header)) : 0;
        Span<byte> halves = UpperHalves(state);
        halves.Clear();
        if ((present & XsaveLayout.Avx) != 0 && area!.Length >= XsaveLayout.AvxOffset + XsaveLayout.AvxSize)
        {
            area.AsSpan((int)XsaveLayout.AvxOffset, halves.Length).CopyTo(halves);
        }

        bool hasPkru = (present & XsaveLayout.Pkru) != 0 && area!.Length >= XsaveLayout.PkruOffset + XsaveLayout.PkruSize;
        state->Pkru = hasPkru ? BinaryPrimitives.ReadUInt32LittleEndian(area.AsSpan((int)XsaveLayout.PkruOffset)) : 0;
    }

    private static Span<byte> UpperHalves(CpuState* state) => new(state->YmmHigh, (int)XsaveLayout.AvxSize);
}
