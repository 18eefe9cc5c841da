namespace Tutti.Cpu.Software.Tests;

/// <summary>What handlers, ops and thunks assume of the structures' layout.</summary>
public unsafe class CpuStateLayoutTests
{
    [Fact]
    public void Registers_lie_where_ops_expect_them()
    {
        CpuState state;
        byte* start = (byte*)&state;
        Assert.Equal(0, (byte*)state.Gpr - start);
        Assert.Equal(CpuState.ZeroOffset, (byte*)&state.Zero - start);
        Assert.Equal(CpuState.RipOffset, (byte*)&state.Rip - start);
        Assert.Equal(CpuState.ReachOffset, (byte*)&state.ReachValue - start);
    }

    [Fact]
    public void The_FXSAVE_area_is_aligned_in_a_state_that_is()
    {
        CpuState state;
        Assert.Equal(0, (state.FxArea - (byte*)&state) % 16);
    }

    [Fact]
    public void The_upper_halves_of_YMM_are_aligned_and_last()
    {
        CpuState state;
        Assert.Equal(0, (state.YmmHigh - (byte*)&state) % 16);
        Assert.Equal(CpuState.YmmHighDistance, (int)(CpuState.YmmHighOf(&state, 3) - CpuState.Xmm(&state, 3)));
        Assert.Equal(sizeof(CpuState), (int)(CpuState.YmmHighOf(&state, 16) - (byte*)&state));
    }

    [Fact]
    public void Segments_follow_each_other_in_the_order_of_their_encodings()
    {
        CpuState state;
        Assert.Equal(16, sizeof(Segment));
        Assert.True(CpuState.SegmentOf(&state, 1) == &state.Cs);
        Assert.True(CpuState.SegmentOf(&state, 2) == &state.Ss);
        Assert.True(CpuState.SegmentOf(&state, 3) == &state.Ds);
        Assert.True(CpuState.SegmentOf(&state, 4) == &state.Fs);
        Assert.True(CpuState.SegmentOf(&state, 5) == &state.Gs);
    }
}
