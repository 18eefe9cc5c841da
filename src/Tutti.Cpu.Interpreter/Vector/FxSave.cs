using System.Runtime.CompilerServices;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XRSTOR, LDMXCSR, STMXCSR. The XSAVE area has the components x87, SSE, AVX and
/// PKRU in the standard format. Source: Intel SDM volume 1, chapter 10.5 and 13.
/// </summary>
/// <remarks>Op.Aux is 1 for the forms with REX.W, which keep 64-bit pointers.</remarks>
internal static unsafe class FxSave
{
    private const int LegacySize = 512;
    private const int UsedLegacy = 416;
    private const int UsedLegacy32 = 288;
    private const int MxcsrMaskOffset = 28;

    /// <summary>All MXCSR bits but those above DAZ, FTZ, rounding, masks and flags.</summary>
    private const uint MxcsrMask = 0xFFFF;

    private static readonly nint NormalizeThunk = NativeThunks.Get(
        new ThunkKey(Code.Nopd, 0), ThunkBuilder.BuildX87([0x90]));

    public static Op* Save(CpuState* state, Op* op)
    {
        if (!TryGetFxOperand(state, op, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        // SAFETY: images have room for the legacy area and copies stay inside it; the FX area has 512 bytes.
        byte* image = stackalloc byte[UsedLegacy];
        Compose(state, image, op->Aux != 0);
        return GuestAccess.WriteBytes(state, linear, image, XmmEnd(state)) ? op + 1 : Flow.Fault(state, op);
    }

    public static Op* Restore(CpuState* state, Op* op)
    {
        byte* image = stackalloc byte[UsedLegacy];
        if (!TryGetFxOperand(state, op, false, out ulong linear) || !GuestAccess.ReadBytes(state, linear, image, UsedLegacy))
        {
            return Flow.Fault(state, op);
        }

        if ((*(uint*)(image + CpuState.FxMxcsr) & ~MxcsrMask) != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        TakeX87(state, image, op->Aux != 0);
        *(uint*)(state->FxArea + CpuState.FxMxcsr) = *(uint*)(image + CpuState.FxMxcsr);
        Unsafe.CopyBlockUnaligned(state->FxArea + CpuState.FxXmm, image + CpuState.FxXmm, (uint)(XmmEnd(state) - CpuState.FxXmm));
        return op + 1;
    }

    public static Op* ExtendedSave(CpuState* state, Op* op) => SaveComponents(state, op, Requested(state));

    /// <summary>XSAVEOPT leaves out what is in its initial state. What has not changed since XRSTOR is saved all the same, as it may be.</summary>
    public static Op* OptimizedSave(CpuState* state, Op* op) => SaveComponents(state, op, Requested(state) & ExtendedState.InUse(state));

    private static Op* SaveComponents(CpuState* state, Op* op, ulong saved)
    {
        int size = (int)XsaveLayout.SizeOf(saved);
        if (!TryGetExtendedOperand(state, op, size, true, out ulong linear)
            || !VectorMemory.ProbeWrite(state, linear, size)
            || !GuestAccess.Read<W64>(state, linear + XsaveLayout.Header, out ulong present))
        {
            return Flow.Fault(state, op);
        }

        ulong requested = Requested(state);
        byte* image = stackalloc byte[UsedLegacy];
        Compose(state, image, op->Aux != 0);
        if ((saved & XsaveLayout.X87) != 0)
        {
            X87Ops.FinishWrite(state, linear, image, CpuState.FxMxcsr);
            X87Ops.FinishWrite(state, linear + MmxState.FxRegisters, image + MmxState.FxRegisters, 128);
        }

        if ((requested & (XsaveLayout.Sse | XsaveLayout.Avx)) != 0)
        {
            X87Ops.FinishWrite(state, linear + CpuState.FxMxcsr, image + CpuState.FxMxcsr, 8);
        }

        if ((saved & XsaveLayout.Sse) != 0)
        {
            X87Ops.FinishWrite(state, linear + CpuState.FxXmm, image + CpuState.FxXmm, XmmEnd(state) - CpuState.FxXmm);
        }

        if ((saved & XsaveLayout.Avx) != 0)
        {
            X87Ops.FinishWrite(state, linear + XsaveLayout.AvxOffset, state->YmmHigh, XmmEnd(state) - CpuState.FxXmm);
        }

        if ((saved & XsaveLayout.Pkru) != 0)
        {
            ulong pkru = state->Pkru;
            X87Ops.FinishWrite(state, linear + XsaveLayout.PkruOffset, (byte*)&pkru, (int)XsaveLayout.PkruSize);
        }

        present = (present & ~requested) | (requested & ExtendedState.InUse(state));
        X87Ops.FinishWrite(state, linear + XsaveLayout.Header, (byte*)&present, 8);
        return op + 1;
    }

    public static Op* ExtendedRestore(CpuState* state, Op* op)
    {
        byte* image = stackalloc byte[(int)(XsaveLayout.AvxOffset + XsaveLayout.AvxSize)];
        if (!TryGetExtendedOperand(state, op, (int)XsaveLayout.BaseSize, false, out ulong linear)
            || !GuestAccess.ReadBytes(state, linear, image, (int)XsaveLayout.BaseSize))
        {
            return Flow.Fault(state, op);
        }

        ulong requested = Requested(state);
        ulong* header = (ulong*)(image + XsaveLayout.Header);
        ulong present = header[0];
        bool loadsMxcsr = (requested & (XsaveLayout.Sse | XsaveLayout.Avx)) != 0;
        uint mxcsr = *(uint*)(image + CpuState.FxMxcsr);
        if ((present & ~state->Xcr0) != 0 || header[1] != 0 || header[2] != 0 || (loadsMxcsr && (mxcsr & ~MxcsrMask) != 0))
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        ulong avx = requested & XsaveLayout.Avx;
        if ((avx & present) != 0
            && (!TryGetExtendedOperand(state, op, (int)XsaveLayout.SizeOf(avx), false, out _)
                || !GuestAccess.ReadBytes(state, linear + XsaveLayout.AvxOffset, image + XsaveLayout.AvxOffset, (int)XsaveLayout.AvxSize)))
        {
            return Flow.Fault(state, op);
        }

        if (!TryReadPkru(state, op, linear, requested & present, out uint pkru))
        {
            return Flow.Fault(state, op);
        }

        if ((requested & XsaveLayout.X87) != 0)
        {
            if ((present & XsaveLayout.X87) == 0)
            {
                Unsafe.InitBlockUnaligned(image, 0, CpuState.FxMxcsr);
                Unsafe.InitBlockUnaligned(image + MmxState.FxRegisters, 0, 128);
                *(ushort*)(image + MmxState.FxControl) = 0x37F;
            }

            TakeX87(state, image, op->Aux != 0);
        }

        if (loadsMxcsr)
        {
            *(uint*)(state->FxArea + CpuState.FxMxcsr) = mxcsr;
        }

        if ((requested & XsaveLayout.Sse) != 0)
        {
            TakeRegisters(state, state->FxArea + CpuState.FxXmm, image + CpuState.FxXmm, (present & XsaveLayout.Sse) != 0);
        }

        if (avx != 0)
        {
            TakeRegisters(state, state->YmmHigh, image + XsaveLayout.AvxOffset, (present & XsaveLayout.Avx) != 0);
        }

        if ((requested & XsaveLayout.Pkru) != 0)
        {
            // The area has been read with the rights that were.
            SoftwareProcessor.From(state).Tlb.SetPkru(pkru);
        }

        return op + 1;
    }

    /// <summary>PKRU of an area that has it; 0, its initial state, of another. False after a fault.</summary>
    private static bool TryReadPkru(CpuState* state, Op* op, ulong linear, ulong loaded, out uint pkru)
    {
        pkru = 0;
        if ((loaded & XsaveLayout.Pkru) == 0)
        {
            return true;
        }

        if (!TryGetExtendedOperand(state, op, (int)XsaveLayout.SizeOf(XsaveLayout.Pkru), false, out _)
            || !GuestAccess.Read<W32>(state, linear + XsaveLayout.PkruOffset, out ulong value))
        {
            return false;
        }

        pkru = (uint)value;
        return true;
    }

    public static Op* LoadMxcsr(CpuState* state, Op* op)
    {
        if (state->FpuTraps != 0)
        {
            return VectorOps.SseUnavailable(state, op);
        }

        return SetMxcsr(state, op);
    }

    /// <summary>LDMXCSR or VLDMXCSR, once it is known to be available.</summary>
    public static Op* SetMxcsr(CpuState* state, Op* op)
    {
        if (!AnyAddress.TryGet(state, op, 4, false, out ulong linear) || !GuestAccess.Read<W32>(state, linear, out ulong value))
        {
            return Flow.Fault(state, op);
        }

        if ((value & ~MxcsrMask) != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        *(uint*)(state->FxArea + CpuState.FxMxcsr) = (uint)value;
        return op + 1;
    }

    public static Op* StoreMxcsr(CpuState* state, Op* op) =>
        state->FpuTraps != 0 ? VectorOps.SseUnavailable(state, op) : GetMxcsr(state, op);

    /// <summary>STMXCSR or VSTMXCSR, once it is known to be available.</summary>
    public static Op* GetMxcsr(CpuState* state, Op* op) =>
        AnyAddress.TryGet(state, op, 4, true, out ulong linear)
        && GuestAccess.Write<W32>(state, linear, *(uint*)(state->FxArea + CpuState.FxMxcsr))
            ? op + 1
            : Flow.Fault(state, op);

    private static bool TryGetFxOperand(CpuState* state, Op* op, bool write, out ulong linear)
    {
        linear = 0;
        if ((state->FpuTraps & (FpuTrap.TaskSwitched | FpuTrap.Emulation)) != 0)
        {
            Faults.Raise(state, ExceptionVector.DeviceNotAvailable, 0);
            return false;
        }

        return TryGetAligned(state, op, LegacySize, 16, write, out linear);
    }

    private static bool TryGetExtendedOperand(CpuState* state, Op* op, int size, bool write, out ulong linear)
    {
        linear = 0;
        if ((state->Cr4 & Cr4.OsXsave) == 0 || (state->FpuTraps & FpuTrap.TaskSwitched) != 0)
        {
            int vector = (state->Cr4 & Cr4.OsXsave) == 0 ? ExceptionVector.InvalidOpcode : ExceptionVector.DeviceNotAvailable;
            Faults.Raise(state, vector, 0);
            return false;
        }

        return TryGetAligned(state, op, size, 64, write, out linear);
    }

    private static bool TryGetAligned(CpuState* state, Op* op, int size, ulong alignment, bool write, out ulong linear)
    {
        if (!AnyAddress.TryGet(state, op, size, write, out linear))
        {
            return false;
        }

        if ((linear & (alignment - 1)) == 0)
        {
            return true;
        }

        Faults.Raise(state, ExceptionVector.GeneralProtection, 0);
        return false;
    }

    /// <summary>EDX:EAX and XCR0.</summary>
    private static ulong Requested(CpuState* state) => (((ulong)(uint)state->Gpr[2] << 32) | (uint)state->Gpr[0]) & state->Xcr0;

    /// <summary>Takes the halves of the vector registers that the mode has, or their initial zeros.</summary>
    private static void TakeRegisters(CpuState* state, byte* to, byte* from, bool present)
    {
        uint length = (uint)(XmmEnd(state) - CpuState.FxXmm);
        if (present)
        {
            Unsafe.CopyBlockUnaligned(to, from, length);
        }
        else
        {
            Unsafe.InitBlockUnaligned(to, 0, length);
        }
    }

    /// <summary>XMM8 to XMM15 exist only in 64-bit mode.</summary>
    private static int XmmEnd(CpuState* state) =>
        (state->Mode & CodeMode.BitnessMask) == CodeMode.Bits64 ? UsedLegacy : UsedLegacy32;

    /// <summary>The legacy area as memory shows it. Both pointer formats lie over each other (see <see cref="X87Ops"/>).</summary>
    private static void Compose(CpuState* state, byte* image, bool pointers64)
    {
        Unsafe.CopyBlockUnaligned(image, state->FxArea, UsedLegacy);
        *(uint*)(image + MxcsrMaskOffset) = MxcsrMask;
        CutPointers(image, pointers64);
    }

    private static void CutPointers(byte* image, bool pointers64)
    {
        if (!pointers64)
        {
            // 32-bit offset, 16-bit selector, two reserved bytes.
            *(ulong*)(image + X87Ops.FxInstruction) &= 0xFFFF_FFFF_FFFF;
            *(ulong*)(image + X87Ops.FxData) &= 0xFFFF_FFFF_FFFF;
        }
    }

    /// <summary>Takes the x87 part; the host brings reserved bits, ES and B into the form that the processor keeps.</summary>
    private static void TakeX87(CpuState* state, byte* image, bool pointers64)
    {
        CutPointers(image, pointers64);
        Unsafe.CopyBlockUnaligned(state->FxArea, image, CpuState.FxMxcsr);
        Unsafe.CopyBlockUnaligned(state->FxArea + MmxState.FxRegisters, image + MmxState.FxRegisters, 128);
        X87Ops.Invoke(state, (ulong)NormalizeThunk, null);
        *(ushort*)(state->FxArea + X87Ops.FxOpcode) &= 0x7FF;
    }
}
